// Fibers on stacks that are reused, and what the sanitizers must be told about them.
#pragma once

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>

namespace cuda_on_cpu {

struct Fiber {
  boost::context::detail::fcontext_t context = nullptr;
  void* sanitizer = nullptr;  // ThreadSanitizer's fiber, AddressSanitizer's fake stack
};

// Runs the fibers of one block, one at a time, on the calling thread.
class FiberScheduler {
 public:
  // `entry` is what each fiber runs first; it must end with leave().
  void begin(std::size_t count, void (*entry)());
  // Runs fiber `index` until it yields or leaves.
  void resume(Fiber& fiber, std::size_t index);
  // Back to whoever resumed this fiber; returns when it is resumed again.
  void yield(Fiber& fiber);
  // Back for good; its stack is another's.
  [[noreturn]] void leave(Fiber& fiber);

  // For ThreadSanitizer: what happened before publish(at) is before what happens after observe(at).
  void publish(const void* at);
  void observe(const void* at);

 private:
  std::size_t count_ = 0;
  void (*entry_)() = nullptr;
  boost::context::detail::fcontext_t main_ = nullptr;
  void* main_sanitizer_ = nullptr;
  const void* main_stack_ = nullptr;  // AddressSanitizer: where the calling thread's stack is
  std::size_t main_stack_bytes_ = 0;
};

}  // namespace cuda_on_cpu
