#include "kernels/squared_norm/squared_norm.h"

#include "tests/kernels/expect_refused.h"
#include "tests/kernels/on_device.h"

namespace terroir::test {
namespace {

struct Result {
  double sum = 0;
  std::int32_t nonfinite = 0;
};

Result norm(const std::vector<ConstView>& x, int threads = 1, Result before = {}) {
  OpContext ctx = context(threads);
  const OnDevice<double> sum({before.sum});
  const OnDevice<std::int32_t> nonfinite({before.nonfinite});
  const Workspace workspace(squared_norm_workspace(test_device()));
  squared_norm(ctx, {.x = x, .out = sum.view(), .nonfinite = nonfinite.view(), .workspace = workspace});
  return {sum.values()[0], nonfinite.values()[0]};
}

class SquaredNormOf : public testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(Sizes, SquaredNormOf,
                         testing::Values(0, 1, 3, 15, 16, 17, 63, 65, 257, 4095, 4096, 4097, 300001));

TEST_P(SquaredNormOf, AddsTheSumOfSquaresForAnyNumberOfThreads) {
  Tensor x({GetParam()});
  double wanted = 2.5;
  for (const double value : values(x.randomize(1))) wanted += value * value;
  const Result one = norm({x.view()}, 1, {.sum = 2.5});
  EXPECT_NEAR(one.sum, wanted, 1e-12 * wanted);  // the plain sum of 3e5 terms is itself off by 4e-13
  EXPECT_EQ(one.nonfinite, 0);
  for (const int threads : {2, 3}) EXPECT_EQ(norm({x.view()}, threads, {.sum = 2.5}).sum, one.sum);
}

TEST_P(SquaredNormOf, FindsASingleNanOrInfinityAtEitherEnd) {
  const std::int64_t n = GetParam();
  if (n == 0) return;  // nothing to spoil
  std::vector<float> elements(static_cast<std::size_t>(n), 0.5F);
  Tensor x({n}), good({5});
  good.randomize(1);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const std::size_t at : {std::size_t{0}, elements.size() - 1}) {
      elements[at] = bad;
      const Result result = norm({good.view(), x.assign(elements).view(), good.view()}, 2);
      EXPECT_EQ(result.nonfinite, 1);
      EXPECT_FALSE(std::isfinite(result.sum));
      elements[at] = 0.5F;
    }
  }
}

TEST(SquaredNorm, AListIsTheSumOfItsTensors) {
  std::vector<Tensor> tensors;
  std::vector<ConstView> list;
  double wanted = 0;
  for (std::uint32_t i = 0; i < 400; ++i) {  // more than one launch takes; some empty
    const std::int64_t n = i == 7 ? 20000 : i % 37;
    for (const double value : values(tensors.emplace_back(Shape{n}).randomize(i))) wanted += value * value;
  }
  for (const Tensor& tensor : tensors) list.push_back(tensor);
  const Result all = norm(list);
  EXPECT_NEAR(all.sum, wanted, 1e-12 * wanted);
  EXPECT_EQ(norm(list, 3).sum, all.sum);
  EXPECT_EQ(norm({}, 1, {.sum = 4}).sum, 4);
}

TEST_P(SquaredNormOf, AddsSquaresOfBf16AmongOthers) {
  Tensor half({GetParam()}, 0, DType::kBF16), x({77});
  double wanted = 0;
  for (const double value : values(half.randomize(1))) wanted += value * value;
  for (const double value : values(x.randomize(2))) wanted += value * value;
  const std::vector<ConstView> list = {half.view(), x.view()};
  const Result one = norm(list);
  EXPECT_NEAR(one.sum, wanted, 1e-12 * wanted);
  EXPECT_EQ(one.nonfinite, 0);
  EXPECT_EQ(norm(list, 3).sum, one.sum);
  if (GetParam() == 0) return;
  std::vector<float> elements(static_cast<std::size_t>(GetParam()), 0.5F);
  elements.back() = INFINITY;
  half.assign(elements);
  EXPECT_EQ(norm(list).nonfinite, 1);
}

TEST(SquaredNorm, AlignmentChangesNoBit) {
  constexpr std::int64_t kCount = 20000;
  Tensor aligned({kCount}), all({kCount + 1});
  std::vector<float> shifted = {0};
  for (const double value : values(aligned.randomize(1))) shifted.push_back(static_cast<float>(value));
  all.assign(shifted);
  EXPECT_EQ(norm({all.view().slice(0, 1, kCount + 1)}).sum, norm({aligned.view()}).sum);
}

TEST(SquaredNorm, LargestFloatsAreFinite) {
  const float largest = std::numeric_limits<float>::max();
  Tensor x({100});
  x.assign(std::vector<float>(100, largest));
  const Result result = norm({x.view()});
  EXPECT_EQ(result.nonfinite, 0);
  EXPECT_NEAR(result.sum / (100.0 * largest * largest), 1, 1e-14);
}

TEST(SquaredNorm, NeverClearsTheFlagWhichMayBeLeftOut) {
  Tensor x({2});
  const ConstView list[] = {x.assign({3, 4}).view()};
  const Result result = norm({list[0]}, 1, {.nonfinite = 1});
  EXPECT_EQ(result.nonfinite, 1);
  EXPECT_EQ(result.sum, 25);
  x.assign({NAN, 4});
  const OnDevice<double> sum({0});
  const Workspace workspace(squared_norm_workspace(test_device()));
  OpContext ctx = context();
  squared_norm(ctx, {.x = list, .out = sum.view(), .workspace = workspace});
  EXPECT_TRUE(std::isnan(sum.values()[0]));
}

TEST(SquaredNorm, RefusesWrongArgumentsAndWritesNothing) {
  OpContext ctx = context();
  const Tensor x({4}), matrix({2, 2});
  const OnDevice<double> sum({1, 1});
  const OnDevice<std::int32_t> flag({0});
  const Workspace workspace(squared_norm_workspace(test_device()));
  const View out = sum.view().slice(0, 0, 1);
  const ConstView good[] = {x.view()}, bad[] = {x.view(), matrix.view()};
  const auto refused = [&](const SquaredNormArgs& args, const std::string& words) {
    expect_refused([&] { squared_norm(ctx, args); }, "squared_norm: " + words);
  };
  refused({bad, out, flag.view(), workspace}, "x is f32[2, 2], must be f32[*]");
  refused({good, sum.view(), flag.view(), workspace}, "out is f64[2], must be f64[1]");
  refused({good, out, x.view().slice(0, 0, 1), workspace}, "nonfinite is f32[1], its dtype must be i32");
  if (on_cuda()) refused({good, out, flag.view(), View()}, "workspace is");
  EXPECT_EQ(sum.values()[0], 1);
  EXPECT_EQ(flag.values()[0], 0);
}

}  // namespace
}  // namespace terroir::test
