// Scalar conversions between f32 and the 16-bit formats of files. Widening is exact; narrowing what was
// widened gives the same bits back, NaN payloads included. Compute kernels have their own, vectorized, in
// kernels/tensor.
#pragma once

#include <bit>
#include <cstdint>

namespace terroir {

inline float float_from_bf16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

// Round to nearest, ties to even; a NaN stays a NaN.
inline std::uint16_t bf16_from_float(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto upper = static_cast<std::uint16_t>(bits >> 16);
  if ((bits & 0xffff) == 0) return upper;
  if ((bits & 0x7fffffff) > 0x7f800000)
    return upper | 0x40;  // quiet: dropping the payload must not make infinity
  return static_cast<std::uint16_t>((bits + 0x7fff + (upper & 1)) >> 16);
}

inline float float_from_f16(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1f;
  const std::uint32_t fraction = bits & 0x3ff;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000 | (fraction << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // zero or subnormal: exact in f32
  return sign != 0 ? -magnitude : magnitude;
}

}  // namespace terroir
