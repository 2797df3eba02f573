#include "base/philox.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace terroir {
namespace {

// Random123's kat_vectors, philox4x32 with 10 rounds: zeros, ones, and digits of pi.
TEST(Philox, EqualsTheKnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, OneBlockServesTwoIndices) {
  const PhiloxCounter block = philox4x32({5, 0, 0, 0}, {1, 2});
  EXPECT_EQ(philox_bits({1, 2}, 10), std::uint64_t{block[1]} << 32 | block[0]);
  EXPECT_EQ(philox_bits({1, 2}, 11), std::uint64_t{block[3]} << 32 | block[2]);
}

TEST(Philox, IndicesBeyond32BitsHaveTheirOwnDraws) {
  EXPECT_NE(philox_bits({1, 2}, 0), philox_bits({1, 2}, std::uint64_t{1} << 33));
}

TEST(PhiloxKeyOf, DependsOnSeedAndName) {
  std::set<PhiloxKey> keys;
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 40})
    for (const char* name : {"", "a", "b", "model.embed_tokens.weight"}) keys.insert(philox_key(seed, name));
  EXPECT_EQ(keys.size(), 12U);
  EXPECT_EQ(philox_key(7, "a"), philox_key(7, "a"));
}

TEST(PhiloxUniform, LiesInsideTheOpenIntervalWithTheRightMoments) {
  const PhiloxKey key = philox_key(1, "uniform");
  constexpr int kCount = 200000;
  double sum = 0, squares = 0;
  for (int i = 0; i < kCount; ++i) {
    const double u = philox_uniform(key, i);
    ASSERT_GT(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
    squares += u * u;
  }
  // Standard errors: 0.2887 / sqrt(200000) = 6.5e-4 and 0.298 / sqrt(200000) = 6.7e-4; four of them.
  EXPECT_NEAR(sum / kCount, 1.0 / 2, 2.6e-3);
  EXPECT_NEAR(squares / kCount, 1.0 / 3, 2.7e-3);
}

TEST(PhiloxNormal, InvertsTheDistributionFunction) {
  const PhiloxKey key = philox_key(1, "inversion");
  for (int i = 0; i < 100000; ++i) {
    const double u = philox_uniform(key, i), x = philox_normal(key, i);
    // The smaller tail, where erfc keeps all its digits: P(X < -|x|).
    const double tail = 0.5 * std::erfc(std::fabs(x) / std::sqrt(2.0));
    ASSERT_NEAR(tail / std::min(u, 1 - u), 1, 2e-14) << u;
    ASSERT_EQ(x < 0, u < 0.5);
  }
}

TEST(PhiloxNormal, HasTheMomentsAndTailsOfANormal) {
  const PhiloxKey key = philox_key(2, "moments");
  constexpr int kCount = 1000000;
  double sum = 0, squares = 0, fourth = 0, largest = 0;
  int beyond_three = 0;
  for (int i = 0; i < kCount; ++i) {
    const double x = philox_normal(key, i);
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
    beyond_three += std::fabs(x) > 3;
    largest = std::max(largest, std::fabs(x));
  }
  // Four standard errors each: 1e-3, sqrt(2) 1e-3, sqrt(96) 1e-3, sqrt(2700) = 52.
  EXPECT_NEAR(sum / kCount, 0, 4e-3);
  EXPECT_NEAR(squares / kCount, 1, 5.7e-3);
  EXPECT_NEAR(fourth / kCount, 3, 3.9e-2);
  EXPECT_NEAR(beyond_three, 2700, 208);
  EXPECT_GT(largest, 4);
  EXPECT_LT(largest, 6.5);
}

}  // namespace
}  // namespace terroir
