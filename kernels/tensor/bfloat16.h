// bfloat16 one value at a time, for code that is not in a hurry; vectors: simd-inl.h.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/tensor/view.h"

namespace terroir {

inline float to_float(float value) { return value; }
inline float to_float(BFloat16 value) {
  const std::uint32_t bits = std::uint32_t{value.bits} << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}

// float, or BFloat16 rounded to nearest, ties to even; a NaN stays a NaN.
template <class T>
T from_float(float value);
template <>
inline float from_float<float>(float value) {
  return value;
}
template <>
inline BFloat16 from_float<BFloat16>(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const auto upper = static_cast<std::uint16_t>(bits >> 16);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return {static_cast<std::uint16_t>(upper | 0x40)};
  return {static_cast<std::uint16_t>((bits + 0x7FFF + (upper & 1)) >> 16)};
}

}  // namespace terroir
