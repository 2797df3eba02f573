// What rank 0 tells the person who waits: one status line on a terminal, else a plain line every few seconds.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/log.h"

namespace terroir {

class ProgressLine {
 public:
  // Steps [first_step, last_step) are still to do.
  ProgressLine(Logger& log, std::int64_t first_step, std::int64_t last_step, bool enabled);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // After a step; `done` steps of the run are complete.
  void update(std::int64_t done, double loss, double bits_per_byte, double tokens_per_s, double mfu);
  // A line of its own, above the status line.
  void say(const std::string& line);

 private:
  using Clock = std::chrono::steady_clock;
  void clear_line();
  Logger& log_;
  std::int64_t first_step_, last_step_;
  bool enabled_, terminal_, line_shown_ = false;
  Clock::time_point begin_, last_line_;
};

// "3 h 20 min", "4 min 10 s", "12 s".
std::string format_duration(double seconds);

}  // namespace terroir
