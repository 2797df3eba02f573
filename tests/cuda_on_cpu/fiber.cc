#include "tests/cuda_on_cpu/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// ThreadSanitizer's fibers; nothing in other builds.
#if defined(TERROIR_EMULATOR_TSAN)
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#else
namespace {
void* __tsan_get_current_fiber() { return nullptr; }
void* __tsan_create_fiber(unsigned) { return nullptr; }
void __tsan_destroy_fiber(void*) {}
void __tsan_switch_to_fiber(void*, unsigned) {}
void __tsan_acquire(void*) {}
void __tsan_release(void*) {}
}  // namespace
#endif

namespace cuda_on_cpu {
namespace {

using boost::context::detail::fcontext_t;
using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kStackBytes = 256 << 10;  // redzones around every variable
#else
constexpr std::size_t kStackBytes = 64 << 10;
#endif
constexpr unsigned kSwitchOrdersNothing = 1;

// What is kept from launch to launch: one mapping for all stacks, each with a guard page below it, and
// ThreadSanitizer's fibers.
class Pool {
 public:
  void reserve(std::size_t count) {
    while (tsan.size() < count) tsan.push_back(__tsan_create_fiber(0));
    if (count <= count_) return;
    if (memory_ != nullptr) munmap(memory_, count_ * stride());
    memory_ = static_cast<char*>(mmap(nullptr, count * stride(), PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (memory_ == MAP_FAILED) std::abort();
    for (std::size_t i = 0; i < count; ++i) mprotect(memory_ + i * stride(), page(), PROT_NONE);
    count_ = count;
  }
  char* bottom(std::size_t index) const { return memory_ + index * stride() + page(); }
  // After a block that failed: fibers that stopped in the midst of calls.
  void renew(std::size_t index) {
    __tsan_destroy_fiber(tsan[index]);
    tsan[index] = __tsan_create_fiber(0);
  }
  std::vector<void*> tsan;

 private:
  static std::size_t page() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }
  static std::size_t stride() { return kStackBytes + page(); }
  char* memory_ = nullptr;
  std::size_t count_ = 0;
};
Pool pool;
Fibers* active = nullptr;

}  // namespace

void Fibers::begin(std::size_t count, void (*entry)()) {
  pool.reserve(count);
  fibers_.assign(count, {});
  entry_ = entry;
  host_tsan_ = __tsan_get_current_fiber();
  __tsan_release(const_cast<char*>(&begun_));
}

void Fibers::run(std::size_t first) {
  active = this;
  jump(first, false);
  active = nullptr;
}

void Fibers::join(bool failed) {
  for (std::size_t i = 0; i < fibers_.size(); ++i) {
    __tsan_switch_to_fiber(pool.tsan[i], kSwitchOrdersNothing);
    __tsan_release(const_cast<char*>(&ended_));
    __tsan_switch_to_fiber(host_tsan_, kSwitchOrdersNothing);
    if (failed) pool.renew(i);
  }
  __tsan_acquire(const_cast<char*>(&ended_));
}

void Fibers::start(transfer_t transfer) {
  arrive(active->fiber(active->running_), transfer);
  active->observe(&active->begun_);
  active->entry_();
  std::abort();  // an entry ends with end()
}

void Fibers::prepare(std::size_t index) {
  Fiber& fresh = fibers_[index];
  fresh.stack = pool.bottom(index);
  fresh.stack_bytes = kStackBytes;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fresh.stack,
                                kStackBytes);  // frames of the fiber before, which never returned
#endif
  fresh.context = make_fcontext(pool.bottom(index) + kStackBytes, kStackBytes, start);
}

// The other side learns from the pointer that comes along whom it came from.
void Fibers::jump(std::size_t to, bool forever) {
  Fiber& self = fiber(running_);
  Fiber& other = fiber(to);
  if (other.context == nullptr) prepare(to);
  running_ = to;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(forever ? nullptr : &self.fake_stack, other.stack, other.stack_bytes);
#else
  (void)forever;
#endif
  arrive(self, jump_fcontext(other.context, &self));
}

void Fibers::arrive([[maybe_unused]] Fiber& self, transfer_t from) {
  Fiber& other = *static_cast<Fiber*>(from.data);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(self.fake_stack, &other.stack, &other.stack_bytes);
#endif
  other.context = from.fctx;
}

void Fibers::go(std::size_t to) { jump(to, false); }
void Fibers::end(std::size_t to) {
  jump(to, true);
  std::abort();
}

void Fibers::enter_device_code() { __tsan_switch_to_fiber(pool.tsan[running_], kSwitchOrdersNothing); }
void Fibers::leave_device_code() { __tsan_switch_to_fiber(host_tsan_, kSwitchOrdersNothing); }

void Fibers::publish(const void* at) {
  __tsan_switch_to_fiber(pool.tsan[running_], kSwitchOrdersNothing);
  __tsan_release(const_cast<void*>(at));
  __tsan_switch_to_fiber(host_tsan_, kSwitchOrdersNothing);
}
void Fibers::observe(const void* at) {
  __tsan_switch_to_fiber(pool.tsan[running_], kSwitchOrdersNothing);
  __tsan_acquire(const_cast<void*>(at));
  __tsan_switch_to_fiber(host_tsan_, kSwitchOrdersNothing);
}

}  // namespace cuda_on_cpu
