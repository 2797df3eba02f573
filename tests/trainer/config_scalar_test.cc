#include "trainer/config/scalar.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/philox.h"
#include "trainer/config/suggest.h"

namespace terroir {
namespace {

TEST(Scalar, NumbersAreWrittenInTheShortestFormThatReadsBack) {
  EXPECT_EQ(shortest(0), "0");
  EXPECT_EQ(shortest(0.1), "0.1");
  EXPECT_EQ(shortest(500000), "500000");
  EXPECT_EQ(shortest(1e-8), "1.0e-08");
  EXPECT_EQ(shortest(-1.25e20), "-1.25e+20");
  const PhiloxKey key = philox_key(3, "numbers");
  for (std::uint64_t i = 0; i < 10000; ++i) {
    const double value =
        std::ldexp(philox_uniform(key, i) - 0.5, static_cast<int>(philox_bits(key, i) % 200) - 100);
    EXPECT_EQ(parse_number(shortest(value)).value, value);
  }
}

TEST(Scalar, SignsAndExponentsAreRead) {
  EXPECT_EQ(parse_integer<int>("+5").value, 5);
  EXPECT_EQ(parse_integer<int>("-1e2").value, -100);
  EXPECT_EQ(parse_number("+.5").value, 0.5);
  EXPECT_EQ(parse_number("-0.5").value, -0.5);
  for (const char* text : {"", "+", "++1", "+-1", "1 ", "1,0", "0b1", "0o7", "-010", "inf", "1e"})
    EXPECT_FALSE(parse_number(text).value.has_value()) << text;
  EXPECT_FALSE(parse_integer<std::int64_t>("1e18").value.has_value());  // beyond 2^53 a double is not exact
  EXPECT_EQ(parse_integer<std::int64_t>("1000000000000000001").value, 1000000000000000001);
}

TEST(Suggest, NearestWordIsAFewEditsAway) {
  EXPECT_EQ(nearest_word("setps", {"steps", "seed"}), "steps");
  EXPECT_EQ(nearest_word("global_batch", {"micro_batch_size", "global_batch_size"}), "global_batch_size");
  EXPECT_EQ(nearest_word("warmup", {"name", "warmup_steps"}), "warmup_steps");
  EXPECT_EQ(nearest_word("lernrate", {"lr", "betas"}), "");
  EXPECT_EQ(nearest_word("ko", {"ar", "tl"}), "");  // two edits of two letters are another word
  EXPECT_EQ(nearest_word(std::string(1000, 'x'), {"x"}), "");
}

}  // namespace
}  // namespace terroir
