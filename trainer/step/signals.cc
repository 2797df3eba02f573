#include "trainer/step/signals.h"

#include <pthread.h>

#include <atomic>
#include <csignal>

namespace terroir {
namespace {

std::atomic<bool> g_received = false;
std::atomic<bool> g_stopping = false;

sigset_t save_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  sigaddset(&signals, SIGTERM);
  return signals;
}

void set_mask(int how) {
  const sigset_t signals = save_signals();
  pthread_sigmask(how, &signals, nullptr);  // fails for an unknown `how` only
}

// Ends the process as SIGTERM does by default, so that whoever waits for it sees why.
void end_by_sigterm() {
  std::signal(SIGTERM, SIG_DFL);
  set_mask(SIG_UNBLOCK);
  std::raise(SIGTERM);
}

void wait_for_signals() {
  const sigset_t signals = save_signals();
  bool terminated = false;
  for (int number = 0; sigwait(&signals, &number) == 0 && !g_stopping;) {
    if (number == SIGTERM && terminated) end_by_sigterm();
    terminated = terminated || number == SIGTERM;
    g_received = true;
  }
}

}  // namespace

SignalThread::SignalThread() {
  g_received = false;
  g_stopping = false;
  set_mask(SIG_BLOCK);
  thread_ = std::thread(wait_for_signals);
}

SignalThread::~SignalThread() {
  g_stopping = true;
  pthread_kill(thread_.native_handle(), SIGUSR1);  // wakes it
  thread_.join();
  g_received = false;
  set_mask(SIG_UNBLOCK);
}

bool SignalThread::received() { return g_received; }

SaveRequest::SaveRequest(std::filesystem::path run_folder) : stop_file_(std::move(run_folder) / "STOP") {}

bool SaveRequest::pending() const {
  std::error_code ignored;
  return SignalThread::received() || std::filesystem::exists(stop_file_, ignored);
}

}  // namespace terroir
