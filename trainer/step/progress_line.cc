#include "trainer/step/progress_line.h"

#include <unistd.h>

#include <cstdio>

namespace terroir {
namespace {

constexpr double kSecondsBetweenLines = 5;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

ProgressLine::ProgressLine(Logger& log, std::int64_t first_step, std::int64_t last_step, bool enabled)
    : log_(log),
      first_step_(first_step),
      last_step_(last_step),
      enabled_(enabled),
      terminal_(::isatty(STDERR_FILENO) == 1),
      begin_(Clock::now()),
      last_line_(begin_) {}

ProgressLine::~ProgressLine() { clear_line(); }

void ProgressLine::update(std::int64_t done, double loss, double bits_per_byte, double tokens_per_s,
                          double mfu) {
  if (!enabled_) return;
  const bool last = done == last_step_;
  if (!terminal_ && !last && done != first_step_ + 1 && seconds_since(last_line_) < kSecondsBetweenLines)
    return;
  last_line_ = Clock::now();
  const double left = seconds_since(begin_) / static_cast<double>(done - first_step_) *
                      static_cast<double>(last_step_ - done);
  const std::string line =
      fmt::format("step {}/{}  loss {:.4f}  {:.3f} bits/byte  {:.0f} tokens/s  MFU {:.0f} %  {} left", done,
                  last_step_, loss, bits_per_byte, tokens_per_s, 100 * mfu, format_duration(left));
  if (!terminal_) {
    log_.info("{}", line);
    return;
  }
  std::fputs(("\r" + line + "\x1b[K").c_str(), stderr);
  line_shown_ = true;
}

void ProgressLine::say(const std::string& line) {
  clear_line();
  log_.info("{}", line);
}

void ProgressLine::clear_line() {
  if (line_shown_) std::fputs("\n", stderr);
  line_shown_ = false;
}

std::string format_duration(double seconds) {
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  if (s >= 3600) return fmt::format("{} h {} min", s / 3600, s % 3600 / 60);
  if (s >= 60) return fmt::format("{} min {} s", s / 60, s % 60);
  return fmt::format("{} s", s);
}

}  // namespace terroir
