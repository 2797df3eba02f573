// exp2 is inlined into kernels and has no entry of its own: this test makes one for each instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/kernels/exp2_test.cc"
#include <hwy/foreach_target.h>

#include "kernels/tensor/exp2-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

void exp2_of(const float* x, std::int64_t n, float* y) {
  for_each_vector(n, [=](auto at) HWY_ATTR { store(at, exp2(load(at, x)), y); });
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace terroir {
namespace {

HWY_EXPORT(exp2_of);

std::vector<float> exp2_of(const std::vector<float>& x) {
  std::vector<float> y(x.size());
  HWY_DYNAMIC_DISPATCH(exp2_of)(x.data(), static_cast<std::int64_t>(x.size()), y.data());
  return y;
}

TEST(Exp2, IsWithinItsStatedError) {
  std::vector<float> x;
  for (float value = -125; value < 127; value += 0.000371F) x.push_back(value);
  const std::vector<float> y = exp2_of(x);
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp2(static_cast<double>(x[i]));
    worst = std::max(worst, std::abs(y[i] - exact) / exact);
  }
  EXPECT_LT(worst, 1.3e-7);
}

TEST(Exp2, IsExactForWholeNumbersAndFlushesTheSmallestToZero) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp2_of({0, -1, 5, -125, 126}), (std::vector<float>{1, 0.5F, 32, 0x1p-125F, 0x1p126F}));
  EXPECT_EQ(exp2_of({-125.01F, -127, -1e30F, -kInfinity}), (std::vector<float>{0, 0, 0, 0}));
}

TEST(Exp2, PassesNanOn) { EXPECT_TRUE(std::isnan(exp2_of({std::nanf("")})[0])); }

}  // namespace
}  // namespace terroir
#endif
