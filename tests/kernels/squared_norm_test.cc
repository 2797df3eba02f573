#include "kernels/squared_norm/squared_norm.h"

#include "tests/kernels/expect_refused.h"
#include "tests/kernels/test_tensor.h"

namespace terroir::test {
namespace {

struct Result {
  double sum = 0;
  std::int32_t nonfinite = 0;
};

Result norm(const ConstView& x, int threads = 1, Result before = {}) {
  OpContext ctx = context(threads);
  squared_norm(ctx, {.x = x,
                     .out = View(&before.sum, DType::kF64, {1}),
                     .nonfinite = View(&before.nonfinite, DType::kI32, {1})});
  return before;
}

class SquaredNormOf : public testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(Sizes, SquaredNormOf,
                         testing::Values(0, 1, 3, 15, 16, 17, 63, 65, 257, 4095, 4096, 4097, 300001));

TEST_P(SquaredNormOf, AddsTheSumOfSquaresForAnyNumberOfThreads) {
  Tensor x({GetParam()});
  double wanted = 2.5;
  for (const double value : values(x.randomize(1))) wanted += value * value;
  const Result one = norm(x, 1, {.sum = 2.5});
  EXPECT_NEAR(one.sum, wanted, 1e-12 * wanted);  // the plain sum of 3e5 terms is itself off by 4e-13
  EXPECT_EQ(one.nonfinite, 0);
  for (const int threads : {2, 3}) EXPECT_EQ(norm(x, threads, {.sum = 2.5}).sum, one.sum);
}

TEST_P(SquaredNormOf, FindsASingleNanOrInfinityAtEitherEnd) {
  const std::int64_t n = GetParam();
  if (n == 0) return;  // nothing to spoil
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const std::int64_t at : {std::int64_t{0}, n - 1}) {
      Tensor x({n});
      x.randomize(1);
      x.view().data<float>()[at] = bad;
      const Result result = norm(x, 2);
      EXPECT_EQ(result.nonfinite, 1);
      EXPECT_FALSE(std::isfinite(result.sum));
    }
  }
}

TEST(SquaredNorm, LargestFloatsAreFinite) {
  std::vector<float> x(100, std::numeric_limits<float>::max());
  const Result result = norm(ConstView(x.data(), DType::kF32, {100}));
  EXPECT_EQ(result.nonfinite, 0);
  EXPECT_NEAR(result.sum / (100.0 * x[0] * x[0]), 1, 1e-14);
}

TEST(SquaredNorm, NeverClearsTheFlag) {
  const float x[] = {3, 4};
  const Result result = norm(ConstView(x, DType::kF32, {2}), 1, {.nonfinite = 1});
  EXPECT_EQ(result.nonfinite, 1);
  EXPECT_EQ(result.sum, 25);
}

TEST(SquaredNorm, RefusesWrongArgumentsAndWritesNothing) {
  OpContext ctx = context();
  Tensor x({4}), matrix({2, 2});
  double sum[2] = {1, 1};
  std::int32_t flag = 0;
  const View out(sum, DType::kF64, {1}), nonfinite(&flag, DType::kI32, {1});
  expect_refused(
      [&] {
        squared_norm(ctx, {matrix, out, nonfinite});
      },
      "squared_norm: x is f32[2, 2], must be f32[*]");
  expect_refused(
      [&] {
        squared_norm(ctx, {x, View(sum, DType::kF64, {2}), nonfinite});
      },
      "squared_norm: out is f64[2], must be f64[1]");
  expect_refused(
      [&] {
        squared_norm(ctx, {x, out, x.view().slice(0, 0, 1)});
      },
      "squared_norm: nonfinite is f32[1], its dtype must be i32");
  EXPECT_EQ(sum[0], 1);
  EXPECT_EQ(flag, 0);
}

}  // namespace
}  // namespace terroir::test
