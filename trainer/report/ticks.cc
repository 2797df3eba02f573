#include "trainer/report/ticks.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace terroir {
namespace {

// The smallest of 1, 2, 5, 10 times a power of ten that is at least `distance`.
double round_up_to_nice(double distance) {
  const double power = std::pow(10.0, std::floor(std::log10(distance)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= distance * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

// Thousands and millions, thousandths and millionths are written once beside the axis.
int shared_exponent(double largest) {
  if (largest == 0 || (largest >= 1e-2 && largest < 1e4)) return 0;
  return static_cast<int>(std::floor(std::log10(largest) / 3)) * 3;
}

}  // namespace

Axis make_axis(double low, double high, int max_ticks, bool whole) {
  TERROIR_CHECK(std::isfinite(low) && std::isfinite(high) && low <= high, "axis from {} to {}", low, high);
  if (low == high) {
    const double margin = low == 0 ? 1 : std::abs(low) * 0.1;
    low -= margin;
    high += margin;
  }
  double distance = round_up_to_nice((high - low) / max_ticks);
  if (whole) distance = std::max(distance, 1.0);
  Axis axis;
  const double first = std::floor(low / distance + 1e-9), last = std::ceil(high / distance - 1e-9);
  axis.min = first * distance;
  axis.max = last * distance;
  axis.exponent = shared_exponent(std::max(std::abs(axis.min), std::abs(axis.max)));
  const double scale = std::pow(10.0, axis.exponent);
  const int digits = std::max(0, static_cast<int>(-std::floor(std::log10(distance / scale) + 1e-9)));
  for (double i = first; i <= last; ++i) {
    const double tick = i * distance;
    axis.ticks.push_back(tick);
    axis.labels.push_back(fmt::format("{:.{}f}", i == 0 ? 0.0 : tick / scale, digits));
  }
  return axis;
}

std::string human_count(double value) {
  if (!std::isfinite(value)) return "–";
  const double size = std::abs(value);
  if (size < 1e4) {
    const std::string digits = fmt::format("{:.0f}", value);
    return size < 999.5 ? digits
                        : digits.substr(0, digits.size() - 3) + "," + digits.substr(digits.size() - 3);
  }
  static constexpr const char* kSuffixes[] = {"k", "M", "G", "T", "P", "E"};
  int power = 1;
  while (power < 6 && size >= 999.5 * std::pow(1000.0, power)) ++power;
  const double scaled = value / std::pow(1000.0, power);
  const int digits = std::abs(scaled) < 9.995 ? 2 : std::abs(scaled) < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f}{}", scaled, digits, kSuffixes[power - 1]);
}

std::string human_duration(double seconds) {
  if (!std::isfinite(seconds)) return "–";
  if (seconds < 10) return fmt::format("{:.2g} s", seconds);
  const auto total = static_cast<std::int64_t>(std::llround(seconds));
  if (total < 60) return fmt::format("{} s", total);
  if (total < 3600) return fmt::format("{} min {:02} s", total / 60, total % 60);
  if (total < 86400) return fmt::format("{} h {:02} min", total / 3600, total / 60 % 60);
  return fmt::format("{} d {} h", total / 86400, total / 3600 % 24);
}

std::string human_bytes(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; unit < 4 && bytes >= 1024; ++unit) bytes /= 1024;
  return fmt::format("{:.{}f} {}", bytes, unit == 0 || bytes >= 100 ? 0 : 1, kUnits[unit]);
}

std::string human_number(double value, int digits) {
  return std::isfinite(value) ? fmt::format("{:.{}f}", value, digits) : "–";
}

}  // namespace terroir
