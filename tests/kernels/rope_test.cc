// Legend: T tokens, N heads, D head_dim, P positions of the table.
#include "kernels/rope/rope.h"

#include <tuple>

#include "kernels/tensor/elementwise.h"
#include "tests/kernels/expect_refused.h"
#include "tests/kernels/numeric_gradient.h"
#include "tests/kernels/test_tensor.h"

namespace terroir::test {
namespace {

constexpr double kTheta = 10000;
constexpr std::int64_t kPositions = 50;
using Values = std::vector<double>;

// On the device under test.
Tensor make_table(std::int64_t head_dim) {
  std::vector<float> host(static_cast<std::size_t>(kPositions * head_dim));
  rope_table(rope_inverse_frequencies(kTheta, head_dim, {}),
             View(host.data(), DType::kF32, {kPositions, head_dim}));
  Tensor table({kPositions, head_dim});
  table.assign(host);
  return table;
}

// The rounding of one result on top of the f32 arithmetic's error.
double tolerance(DType dtype, double f32_error) {
  return dtype == DType::kBF16 ? 0x1p-8 + f32_error : f32_error;
}

// x: [T, N, D] in row-major order.
Values reference(const Values& x, const std::vector<std::int32_t>& positions, std::int64_t heads,
                 std::int64_t head_dim) {
  Values result(x.size());
  const std::int64_t half = head_dim / 2;
  for (std::size_t t = 0; t < positions.size(); ++t)
    for (std::int64_t head = 0; head < heads; ++head)
      for (std::int64_t i = 0; i < half; ++i) {
        const double angle = positions[t] * std::pow(kTheta, -2.0 * i / static_cast<double>(head_dim));
        const std::size_t first = (t * heads + head) * head_dim + i, second = first + half;
        result[first] = x[first] * std::cos(angle) - x[second] * std::sin(angle);
        result[second] = x[second] * std::cos(angle) + x[first] * std::sin(angle);
      }
  return result;
}

class RopeOf : public testing::TestWithParam<std::tuple<std::int64_t, std::int64_t, DType>> {};
INSTANTIATE_TEST_SUITE_P(HeadsAndHeadDims, RopeOf,
                         testing::Combine(testing::Values(1, 3, 9), testing::Values(2, 6, 32, 64, 130),
                                          testing::Values(DType::kF32, DType::kBF16)));

TEST_P(RopeOf, RotatesHeadsOfAFusedProjectionLikeTheFormula) {
  const auto& [heads, head_dim, dtype] = GetParam();
  const std::vector<std::int32_t> positions = {0, 1, 2, 49,
                                               0, 1, 7};  // positions start again at a new document
  const auto tokens = static_cast<std::int64_t>(positions.size());
  Tensor fused({tokens, (heads + 2) * head_dim}, 0, dtype);
  fused.randomize(1);
  const View x = fused.view().slice(1, head_dim, (heads + 1) * head_dim).split(1, head_dim);
  const Values before = values(fused), x_before = values(x);
  const Values wanted = reference(x_before, positions, heads, head_dim);
  OpContext ctx = context();
  const Tensor table = make_table(head_dim);
  rope_apply(ctx, {.x = x, .positions = IntTensor({tokens}, positions), .table = table});
  expect_close(x, wanted, tolerance(dtype, 3e-7), "x");
  const Values after = values(fused);
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t i = 0; i < head_dim; ++i)  // the columns before the heads
      ASSERT_EQ(after[t * (heads + 2) * head_dim + i], before[t * (heads + 2) * head_dim + i]);
}

TEST_P(RopeOf, InverseIsTheGradientAndUndoesTheRotation) {
  const auto& [heads, head_dim, dtype] = GetParam();
  const std::vector<std::int32_t> positions = {3, 49};
  Tensor x({2, heads, head_dim}, 2, dtype), dy({2, heads, head_dim}, 8, dtype);
  const Values x_values = values(x.randomize(1)), dy_values = values(dy.randomize(2));
  const Values dx = numeric_gradient(x_values, [&](const Values& moved) {
    return dot(reference(moved, positions, heads, head_dim), dy_values);
  });
  OpContext ctx = context();
  const Tensor table = make_table(head_dim);
  const IntTensor ids({2}, positions);
  rope_apply(ctx, {.x = dy, .positions = ids, .table = table, .inverse = true});
  expect_close(dy, dx, tolerance(dtype, 1e-6), "dx");
  EXPECT_TRUE(dy.gaps_untouched());
  rope_apply(ctx, {.x = x, .positions = ids, .table = table});
  rope_apply(ctx, {.x = x, .positions = ids, .table = table, .inverse = true});
  expect_close(x, x_values, 2 * tolerance(dtype, 3e-7), "inverse(apply(x))");
}

TEST(RopeTable, HoldsCosinesThenSines) {
  std::vector<float> table(16);
  rope_table({1.0, 0.25}, View(table.data(), DType::kF32, {4, 4}));
  const Values wanted = {std::cos(3.0), std::cos(0.75), std::sin(3.0), std::sin(0.75)};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(table[12 + i], static_cast<float>(wanted[i]));
}

// Llama 3.1's own parameters with head_dim 64; wanted values from transformers 5.23
// (ROPE_INIT_FUNCTIONS["llama3"], f32). Dimension 10 is kept, 15 to 17 are interpolated, 18 and 31 are
// divided by 8.
TEST(RopeFrequencies, FollowLlama3Scaling) {
  const RopeScaling scaling = {RopeScaling::Type::kLlama3, 8, 1, 4, 8192};
  const std::vector<double> got = rope_inverse_frequencies(500000, 64, scaling);
  ASSERT_EQ(got.size(), 32U);
  const std::pair<int, double> wanted[] = {{0, 1.0},
                                           {10, 0.016560440883040428},
                                           {14, 0.0032114461064338684},
                                           {15, 0.0013718936825171113},
                                           {16, 0.0005248460220173001},
                                           {17, 0.0001785077911335975},
                                           {18, 7.784655463183299e-05},
                                           {31, 3.76732259610435e-07}};
  for (const auto& [i, frequency] : wanted) EXPECT_NEAR(got[i] / frequency, 1, 3e-7) << i;
  const std::vector<double> plain = rope_inverse_frequencies(500000, 64, {});
  EXPECT_EQ(got[10], plain[10]);
  EXPECT_EQ(got[31], plain[31] / 8);
}

TEST(Rope, GivesTheSameBitsForAnyNumberOfThreads) {
  TERROIR_CPU_ONLY();
  constexpr std::int64_t kTokens = 100, kHeads = 4, kHeadDim = 66;
  const Tensor table = make_table(kHeadDim);
  std::vector<std::int32_t> numbers;
  for (int t = 0; t < kTokens; ++t) numbers.push_back(t % kPositions);
  const IntTensor positions({kTokens}, numbers);
  const auto run = [&](int threads) {
    Tensor x({kTokens, kHeads, kHeadDim});
    x.randomize(1);
    OpContext ctx = context(threads);
    rope_apply(ctx, {.x = x, .positions = positions, .table = table});
    return x;
  };
  const Tensor one = run(1);
  for (const int threads : {2, 3}) expect_same_bits(run(threads), one, "x");
}

TEST(Rope, RefusesWrongArgumentsAndWritesNothing) {
  Tensor x({2, 1, 4}), odd({2, 1, 3}), table({4, 4}), odd_table({4, 3});
  const Values before = values(x.randomize(1));
  odd.randomize(1);
  table.randomize(2);
  OpContext ctx = context();
  const IntTensor positions({2}, {0, 3}), beyond({2}, {0, 4}), negative({2}, {-1, 0}), three({3}, {0, 1, 2});
  const auto refused = [&](const View& rotated, const ConstView& ids, const ConstView& angles,
                           const std::string& words) {
    expect_refused([&] { rope_apply(ctx, {rotated, ids, angles, false}); }, "rope_apply: " + words);
  };
  refused(odd, positions, odd_table, "x is f32[2, 1, 3], its last dimension must be even");
  if (!on_cuda()) {
    refused(x, beyond, table, "position 4 of token 1 is outside the table of 4");
    refused(x, negative, table, "position -1 of token 0 is outside the table of 4");
  }
  refused(x, three, table, "positions is i32[3], must be i32[2]");
  refused(x, positions, odd_table, "table is f32[4, 3], must be f32[*, 4]");
  refused(x.view().reshape({2, 4}), positions, table, "x is f32[2, 4], must be f32[*, *, *]");
  expect_close(x, before, 0, "x");
}

TEST(RopeFrequencies, RefuseWhatHasNoMeaning) {
  expect_refused([] { rope_inverse_frequencies(kTheta, 63, {}); }, "head_dim 63 must be even");
  expect_refused([] { rope_inverse_frequencies(kTheta, 0, {}); }, "head_dim 0 must be even and positive");
  expect_refused([] { rope_inverse_frequencies(-1, 64, {}); }, "theta -1 must be positive");
  expect_refused(
      [] {
        rope_inverse_frequencies(kTheta, 64, {RopeScaling::Type::kLlama3, 8, 4, 4, 8192});
      },
      "rope scaling llama3: factor 8, low_freq_factor 4, high_freq_factor 4");
  std::vector<float> table(16);
  expect_refused(
      [&] {
        rope_table({1.0}, View(table.data(), DType::kF32, {4, 4}));
      },
      "table is f32[4, 4], must be f32[*, 2]");
}

}  // namespace
}  // namespace terroir::test
