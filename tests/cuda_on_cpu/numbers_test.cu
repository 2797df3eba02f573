// bfloat16 and intrinsics.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "kernels/cuda/device.cuh"

namespace {

using std::bit_cast;

float value_of(std::uint32_t upper_half) { return bit_cast<float>(upper_half << 16); }

// Nearest even by distances in f64; values beyond the largest bf16 by more than half a step are infinite.
std::uint16_t nearest_bf16(float value) {
  if (std::isnan(value)) return 0x7FFF;
  const std::uint32_t bits = bit_cast<std::uint32_t>(value);
  const std::uint32_t low = bits >> 16, high = low + 1;  // the two around it, by magnitude
  if ((bits & 0xFFFFU) == 0) return static_cast<std::uint16_t>(low);
  const auto magnitude = [](std::uint32_t upper) {
    upper &= 0x7FFFU;
    return upper == 0x7F80U ? 0x1p128 : std::abs(static_cast<double>(value_of(upper)));
  };
  const double to_low = std::abs(static_cast<double>(value)) - magnitude(low);
  const double to_high = magnitude(high) - std::abs(static_cast<double>(value));
  if (to_low != to_high) return static_cast<std::uint16_t>(to_low < to_high ? low : high);
  return static_cast<std::uint16_t>(low % 2 == 0 ? low : high);
}

void expect_nearest(std::uint32_t bits) {
  const float value = bit_cast<float>(bits);
  ASSERT_EQ(__bfloat16_as_ushort(__float2bfloat16_rn(value)), nearest_bf16(value)) << std::hex << bits;
}

TEST(BFloat16, RoundsToNearestEvenAroundEveryBFloat16) {
  for (std::uint32_t upper = 0; upper < 0x10000; ++upper)
    for (const std::uint32_t lower : {0x0000, 0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF})
      ASSERT_NO_FATAL_FAILURE(expect_nearest(upper << 16 | lower));
}

TEST(BFloat16, RoundsToNearestEvenAllOverTheFloats) {
  for (std::uint64_t bits = 0; bits < std::uint64_t{1} << 32; bits += 4099)  // a prime: all lower halves
    ASSERT_NO_FATAL_FAILURE(expect_nearest(static_cast<std::uint32_t>(bits)));
}

TEST(BFloat16, ComesBackFromFloatWithItsBits) {
  for (std::uint32_t upper = 0; upper < 0x10000; ++upper) {
    const auto bits = static_cast<std::uint16_t>(upper);
    const float value = __bfloat162float(__ushort_as_bfloat16(bits));
    ASSERT_EQ(bit_cast<std::uint32_t>(value), upper << 16);
    ASSERT_EQ(__bfloat16_as_ushort(__float2bfloat16(value)), std::isnan(value) ? 0x7FFF : bits);
  }
}

TEST(BFloat16, PairsHoldTheLowerIndexInTheLowerHalf) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(1.0F, -2.0F);
  EXPECT_EQ(bit_cast<std::uint32_t>(pair), 0xC0003F80U);
  EXPECT_EQ(__low2float(pair), 1);
  EXPECT_EQ(__high2float(pair), -2);
  EXPECT_EQ(__bfloat1622float2(pair).x, 1);
  EXPECT_EQ(__bfloat1622float2(pair).y, -2);
  EXPECT_EQ(bit_cast<std::uint32_t>(__halves2bfloat162(pair.y, pair.x)), 0x3F80C000U);
}

TEST(Intrinsics, BitsAreThoseOfTheGuide) {
  EXPECT_EQ(__float_as_uint(1.0F), 0x3F800000U);
  EXPECT_EQ(__int_as_float(0x40000000), 2.0F);
  EXPECT_EQ(__double_as_longlong(1.0), 0x3FF0000000000000LL);
  EXPECT_EQ(__popc(0xF0F0U), 8);
  EXPECT_EQ(__popcll(~0ULL), 64);
  EXPECT_EQ(__ffs(0), 0);
  EXPECT_EQ(__ffs(8), 4);
  EXPECT_EQ(__clz(0), 32);
  EXPECT_EQ(__clz(1), 31);
  EXPECT_EQ(__clzll(1), 63);
  EXPECT_EQ(__brev(1), 0x80000000U);
  EXPECT_EQ(__umulhi(0x80000000U, 6), 3U);
  EXPECT_EQ(__umul64hi(1ULL << 63, 6), 3ULL);
}

TEST(Intrinsics, MinimumAndMaximumIgnoreANan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(max(nan, 1.0F), 1);
  EXPECT_EQ(min(2.0F, nan), 2);
  EXPECT_EQ(max(-1, 2), 2);
  EXPECT_EQ(min(3, 2.5), 2.5);
  EXPECT_EQ(max(1, 2ULL), 2ULL);
}

TEST(Intrinsics, ArithmeticIsClose) {
  EXPECT_FLOAT_EQ(rsqrtf(4), 0.5F);
  EXPECT_FLOAT_EQ(__expf(1), 2.7182817F);
  EXPECT_FLOAT_EQ(__logf(2), 0.6931472F);
  EXPECT_FLOAT_EQ(exp2f(3), 8);
  EXPECT_FLOAT_EQ(__fdividef(1, 3), 1.0F / 3);
  EXPECT_EQ(__saturatef(-1), 0);
  EXPECT_EQ(__saturatef(2), 1);
  EXPECT_EQ(__float2int_rn(2.5F), 2);
  EXPECT_EQ(fmaf(2, 3, 4), 10);
}

TEST(Intrinsics, VectorsHaveTheirAlignment) {
  EXPECT_EQ(alignof(float2), 8u);
  EXPECT_EQ(alignof(float4), 16u);
  EXPECT_EQ(alignof(uint2), 8u);
  EXPECT_EQ(alignof(int4), 16u);
  EXPECT_EQ(alignof(double2), 16u);
  EXPECT_EQ(alignof(ushort4), 8u);
  EXPECT_EQ(sizeof(float3), 12u);
  const float4 value = make_float4(1, 2, 3, 4);
  float4 copy;
  __stcs(&copy, __ldcs(&value));
  EXPECT_EQ(copy.w, 4);
  EXPECT_EQ(__ldg(&value).x, 1);
}

}  // namespace
