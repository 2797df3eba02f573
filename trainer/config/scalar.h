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

// The shortest digits that read back as the same number, in a form every YAML and JSON reader takes for a
// number: "0.1", "300", "1.0e-08" (YAML 1.1 readers take 1e-08 for a text).
std::string shortest(double value);

}  // namespace terroir
