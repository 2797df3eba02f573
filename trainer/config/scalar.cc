#include "trainer/config/scalar.h"

#include <fmt/core.h>

#include <charconv>
#include <cmath>
#include <limits>

namespace terroir {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string_view without_sign(std::string_view text) {
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) text.remove_prefix(1);
  return text;
}

// What other YAML readers take for another number than a person does; empty when nothing is ambiguous.
std::string ambiguity(std::string_view text) {
  const std::string_view digits = without_sign(text);
  if (digits.size() > 1 && digits[0] == '0' && (is_digit(digits[1]) || digits[1] == 'o'))
    return fmt::format("\"{}\" is octal to some readers: write the number without leading zeros", text);
  if (digits.size() > 1 && digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X' || digits[1] == 'b'))
    return fmt::format("\"{}\" is not decimal: write the number in decimal", text);
  if (!digits.empty() && is_digit(digits[0]) && digits.find('_') != std::string_view::npos)
    return fmt::format("\"{}\" has underscores: write the digits only", text);
  return {};
}

}  // namespace

Parsed<double> parse_number(std::string_view text) {
  if (std::string error = ambiguity(text); !error.empty()) return {{}, std::move(error)};
  const bool positive_sign = text.starts_with('+') && !text.starts_with("+-");
  const std::string_view body = positive_sign ? text.substr(1) : text;
  double value = 0;
  const auto [end, status] = std::from_chars(body.data(), body.data() + body.size(), value);
  if (status == std::errc::result_out_of_range)
    return {{}, fmt::format("{} does not fit a 64-bit number", text)};
  if (status != std::errc() || end != body.data() + body.size())
    return {{}, fmt::format("\"{}\" is no number", text)};
  if (!std::isfinite(value)) return {{}, fmt::format("\"{}\" is not finite: give a finite number", text)};
  return {value};
}

template <class Int>
Parsed<Int> parse_integer(std::string_view text) {
  if (std::string error = ambiguity(text); !error.empty()) return {{}, std::move(error)};
  Int value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = end == text.data() + text.size();
  if (status == std::errc() && whole) return {value};
  const auto too_large = [&] { return fmt::format("{} does not fit the key's integer", text); };
  if (status == std::errc::result_out_of_range && whole) return {{}, too_large()};

  const Parsed<double> number = parse_number(text);
  constexpr double kMaxExact = 9007199254740992.0;  // 2^53: every integer up to here is a double
  if (!number.value) return {{}, fmt::format("expected an integer, got \"{}\"", text)};
  if (*number.value != std::floor(*number.value))
    return {{}, fmt::format("expected an integer, got {}: give a whole number", text)};
  if (std::abs(*number.value) > kMaxExact ||
      *number.value < static_cast<double>(std::numeric_limits<Int>::min()) ||
      *number.value > static_cast<double>(std::numeric_limits<Int>::max()))
    return {{}, too_large()};
  return {static_cast<Int>(*number.value)};
}

template Parsed<int> parse_integer<int>(std::string_view);
template Parsed<std::int64_t> parse_integer<std::int64_t>(std::string_view);
template Parsed<std::uint64_t> parse_integer<std::uint64_t>(std::string_view);

std::string shortest(double value) {
  char buffer[32];  // the longest shortest form of a double has 24 characters
  const double size = std::abs(value);
  const bool fixed = size == 0 || (size >= 1e-4 && size < 1e15);
  const auto format = fixed ? std::chars_format::fixed : std::chars_format::scientific;
  std::string text(buffer, std::to_chars(buffer, buffer + sizeof buffer, value, format).ptr);
  if (!fixed && text.find('.') == std::string::npos) text.insert(text.find('e'), ".0");
  return text;
}

}  // namespace terroir
