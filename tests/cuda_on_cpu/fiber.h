// Fibers on stacks that are reused, and what the sanitizers must be told about them.
//
// ThreadSanitizer follows each fiber while it runs device code only. The emulator's own work, also what it
// does on a fiber's stack, counts as the host thread's: its bookkeeping is no race of the kernel's.
#pragma once

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>
#include <vector>

namespace cuda_on_cpu {

class Fibers {
 public:
  // Fibers 0..count-1, not started; each first calls `entry`, which ends with end(). Call from the host
  // thread, as run() and join().
  void begin(std::size_t count, void (*entry)());
  // Runs fibers, beginning with `first`, until one goes to the host.
  void run(std::size_t first);
  // The host goes on after all fibers have: what they did is before what it does. `failed`: some have not
  // ended and never will.
  void join(bool failed);

  static constexpr std::size_t kHost = ~std::size_t{0};
  // From the fiber that runs to another, or to the host; returns when somebody goes back to it.
  void go(std::size_t to);
  [[noreturn]] void end(std::size_t to);

  // Around device code, on the running fiber.
  void enter_device_code();
  void leave_device_code();
  // What the running fiber did before publish(at) is before what a fiber does after observe(at).
  void publish(const void* at);
  void observe(const void* at);

 private:
  struct Fiber {
    boost::context::detail::fcontext_t context = nullptr;
    const void* stack = nullptr;
    std::size_t stack_bytes = 0;
    void* fake_stack = nullptr;  // AddressSanitizer's
  };
  static void start(boost::context::detail::transfer_t transfer);
  Fiber& fiber(std::size_t index) { return index == kHost ? host_ : fibers_[index]; }
  void prepare(std::size_t index);
  void jump(std::size_t to, bool forever);
  static void arrive(Fiber& self, boost::context::detail::transfer_t from);

  std::vector<Fiber> fibers_;
  Fiber host_;
  std::size_t running_ = kHost;
  void (*entry_)() = nullptr;
  void* host_tsan_ = nullptr;
  const char begun_ = 0, ended_ = 0;  // addresses for publish and observe
};

}  // namespace cuda_on_cpu
