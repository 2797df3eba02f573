#include "trainer/step/signals.h"

#include <csignal>

namespace terroir {
namespace {

volatile std::sig_atomic_t g_asked = 0;

extern "C" void on_signal(int signal_number) {
  if (signal_number == SIGTERM && g_asked != 0) std::signal(SIGTERM, SIG_DFL);  // the next one ends the process
  g_asked = 1;
}

}  // namespace

SaveRequest::SaveRequest(std::filesystem::path run_folder) : stop_file_(std::move(run_folder) / "STOP") {
  g_asked = 0;
  std::signal(SIGUSR1, on_signal);
  std::signal(SIGTERM, on_signal);
}

SaveRequest::~SaveRequest() {
  std::signal(SIGUSR1, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

bool SaveRequest::pending() const {
  std::error_code ignored;
  return g_asked != 0 || std::filesystem::exists(stop_file_, ignored);
}

}  // namespace terroir
