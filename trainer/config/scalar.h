// Numbers as people write them in configurations. Stricter than YAML 1.1, which reads 010 as 8 and .inf as a
// number.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace terroir {

template <class T>
struct Parsed {
  std::optional<T> value;
  std::string error = {};  // without a value: what is wrong and what to write
};

// 10, -3, 1e3, 1.5e3 (integral). Int: int, std::int64_t or std::uint64_t.
template <class Int>
Parsed<Int> parse_integer(std::string_view text);

// A finite decimal number: 1, -0.5, .5, 1e-8.
Parsed<double> parse_number(std::string_view text);

// The shortest text that reads back as the same number ("0.1", "1e-08", "300").
std::string shortest(double value);

}  // namespace terroir
