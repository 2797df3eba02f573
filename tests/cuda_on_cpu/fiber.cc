#include "tests/cuda_on_cpu/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(TERROIR_EMULATOR_TSAN)
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif

namespace cuda_on_cpu {
namespace {

using boost::context::detail::fcontext_t;
using boost::context::detail::transfer_t;

#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kStackBytes = 256 << 10;
#else
constexpr std::size_t kStackBytes = 64 << 10;
#endif

// One mapping for all stacks of a thread of the host, each with a guard page below it.
class Stacks {
 public:
  ~Stacks() {
    if (memory_ != nullptr) munmap(memory_, count_ * stride());
  }
  void reserve(std::size_t count) {
    if (count <= count_) return;
    if (memory_ != nullptr) munmap(memory_, count_ * stride());
    memory_ = static_cast<char*>(mmap(nullptr, count * stride(), PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (memory_ == MAP_FAILED) std::abort();
    for (std::size_t i = 0; i < count; ++i) mprotect(memory_ + i * stride(), page(), PROT_NONE);
    count_ = count;
  }
  char* bottom(std::size_t index) const { return memory_ + index * stride() + page(); }
  char* top(std::size_t index) const { return bottom(index) + kStackBytes; }

 private:
  static std::size_t page() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }
  static std::size_t stride() { return kStackBytes + page(); }
  char* memory_ = nullptr;
  std::size_t count_ = 0;
};
thread_local Stacks stacks;

struct Arrival {
  FiberScheduler* scheduler;
  void (*entry)();
  fcontext_t* main;
#if defined(__SANITIZE_ADDRESS__)
  const void** main_stack;
  std::size_t* main_stack_bytes;
#endif
};

void start(transfer_t transfer) {
  const Arrival arrival = *static_cast<Arrival*>(transfer.data);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, arrival.main_stack, arrival.main_stack_bytes);
#endif
  *arrival.main = transfer.fctx;
  arrival.entry();
  std::abort();
}

}  // namespace

void FiberScheduler::begin(std::size_t count, void (*entry)()) {
  stacks.reserve(count);
  count_ = count;
  entry_ = entry;
#if defined(TERROIR_EMULATOR_TSAN)
  main_sanitizer_ = __tsan_get_current_fiber();
#endif
}

void FiberScheduler::resume(Fiber& fiber, std::size_t index) {
  Arrival arrival{.scheduler = this, .entry = entry_, .main = &main_};
#if defined(__SANITIZE_ADDRESS__)
  arrival.main_stack = &main_stack_;
  arrival.main_stack_bytes = &main_stack_bytes_;
#endif
  if (fiber.context == nullptr) {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stacks.bottom(index),
                                  kStackBytes);  // frames of the fiber before, which left
#endif
    fiber.context = boost::context::detail::make_fcontext(stacks.top(index), kStackBytes, start);
#if defined(TERROIR_EMULATOR_TSAN)
    fiber.sanitizer = __tsan_create_fiber(0);
#endif
  }
#if defined(TERROIR_EMULATOR_TSAN)
  __tsan_switch_to_fiber(fiber.sanitizer, 1);  // 1: the switch itself orders nothing
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, stacks.bottom(index), kStackBytes);
#endif
  const transfer_t back = boost::context::detail::jump_fcontext(fiber.context, &arrival);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
  fiber.context = back.fctx;
  if (back.data != nullptr) {  // it has left
    fiber.context = nullptr;
#if defined(TERROIR_EMULATOR_TSAN)
    __tsan_destroy_fiber(fiber.sanitizer);
    fiber.sanitizer = nullptr;
#endif
  }
}

void FiberScheduler::yield(Fiber& fiber) {
#if defined(TERROIR_EMULATOR_TSAN)
  __tsan_switch_to_fiber(main_sanitizer_, 1);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fiber.sanitizer, main_stack_, main_stack_bytes_);
#endif
  const transfer_t back = boost::context::detail::jump_fcontext(main_, nullptr);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fiber.sanitizer, &main_stack_, &main_stack_bytes_);
#endif
  (void)fiber;
  main_ = back.fctx;
}

void FiberScheduler::leave(Fiber& fiber) {
#if defined(TERROIR_EMULATOR_TSAN)
  __tsan_switch_to_fiber(main_sanitizer_, 1);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, main_stack_, main_stack_bytes_);
#endif
  boost::context::detail::jump_fcontext(main_, &fiber);
  std::abort();
}

void FiberScheduler::publish([[maybe_unused]] const void* at) {
#if defined(TERROIR_EMULATOR_TSAN)
  __tsan_release(const_cast<void*>(at));
#endif
}
void FiberScheduler::observe([[maybe_unused]] const void* at) {
#if defined(TERROIR_EMULATOR_TSAN)
  __tsan_acquire(const_cast<void*>(at));
#endif
}

}  // namespace cuda_on_cpu
