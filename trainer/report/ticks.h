// Where an axis has its ticks, and how numbers are shown to people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace terroir {

struct Axis {
  double min = 0, max = 1;          // multiples of the ticks' distance
  std::vector<double> ticks;        // in [min, max], ascending
  std::vector<std::string> labels;  // one per tick; the values divided by 10^exponent
  int exponent = 0;                 // 0, or a multiple of 3 that all labels share
};

// An axis over the values from `low` to `high` with at most about `max_ticks` ticks at 1, 2 or 5 times a
// power of ten. `whole`: the values are integers. Equal bounds are widened; REQUIRES: both finite, low <=
// high.
Axis make_axis(double low, double high, int max_ticks, bool whole = false);

// "1,234", "12.3k", "4.56M", "7.8G": three digits and a suffix from ten thousand on.
std::string human_count(double value);
// "0.5 s", "4 min 12 s", "3 h 05 min", "2 d 4 h".
std::string human_duration(double seconds);
// "512 B", "1.5 MiB".
std::string human_bytes(double bytes);
// `digits` digits behind the point; a dash for NaN.
std::string human_number(double value, int digits);

}  // namespace terroir
