// Save-and-leave requests: SIGUSR1 and SIGTERM to this process, or a file STOP in the run folder.
#pragma once

#include <filesystem>
#include <thread>

namespace terroir {

// While it lives, SIGUSR1 and SIGTERM are taken by a thread of their own and by no other; a second SIGTERM
// ends the process at once. One at a time per process, made before any other thread: threads inherit from
// their maker that they do not take these signals.
//
// So no code of a library that computes is ever interrupted by a handler. That is more than caution: the
// kernel puts a handler's frame where the stack pointer points, and generated code (oneDNN's sgemm, 2.6.3)
// has been seen to use the stack pointer as a general register that points into the heap.
class SignalThread {
 public:
  SignalThread();
  ~SignalThread();
  SignalThread(const SignalThread&) = delete;
  SignalThread& operator=(const SignalThread&) = delete;

  // True once a signal came to the one that lives.
  static bool received();

 private:
  std::thread thread_;
};

// Whether this rank was asked to save and leave. Ranks agree in the step's all-reduce.
class SaveRequest {
 public:
  explicit SaveRequest(std::filesystem::path run_folder);
  bool pending() const;

 private:
  std::filesystem::path stop_file_;
};

}  // namespace terroir
