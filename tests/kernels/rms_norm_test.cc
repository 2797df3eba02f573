// Legend: T tokens, N heads, H row length.
#include "kernels/rms_norm/rms_norm.h"

#include <tuple>

#include "kernels/tensor/elementwise.h"
#include "tests/kernels/expect_refused.h"
#include "tests/kernels/numeric_gradient.h"
#include "tests/kernels/test_tensor.h"

namespace terroir::test {
namespace {

constexpr double kEps = 1e-5;
using Values = std::vector<double>;

// residual: rows of `hidden` values.
struct Reference {
  Values y, rstd;
};
Reference reference(const Values& residual, const Values& weight) {
  const std::size_t hidden = weight.size();
  Reference result;
  for (std::size_t begin = 0; begin < residual.size(); begin += hidden) {
    double squares = 0;
    for (std::size_t h = 0; h < hidden; ++h) squares += residual[begin + h] * residual[begin + h];
    result.rstd.push_back(1 / std::sqrt(squares / static_cast<double>(hidden) + kEps));
    for (std::size_t h = 0; h < hidden; ++h)
      result.y.push_back(weight[h] * residual[begin + h] * result.rstd.back());
  }
  return result;
}

Values sum_of(Values a, const Values& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

RmsNormForwardArgs forward_args(const ConstView& x, const ConstView& weight, const View& y,
                                const View& rstd) {
  return {.x = x, .delta = {}, .weight = weight, .eps = kEps, .residual_out = {}, .y = y, .rstd = rstd};
}

// The rounding of one result on top of the f32 arithmetic's error.
double tolerance(DType dtype, double f32_error) {
  return dtype == DType::kBF16 ? 0x1p-8 + f32_error : f32_error;
}

// Rows of every alignment, and for a GPU each way to divide a row among threads: parts of a warp, warps, four
// pieces a thread, too long for registers.
class RmsNormOf : public testing::TestWithParam<std::tuple<std::int64_t, std::int64_t, DType>> {};
INSTANTIATE_TEST_SUITE_P(Sizes, RmsNormOf,
                         testing::Combine(testing::Values(1, 5), testing::Values(1, 3, 63, 64, 65, 257, 768),
                                          testing::Values(DType::kF32, DType::kBF16)));
INSTANTIATE_TEST_SUITE_P(LongRows, RmsNormOf,
                         testing::Combine(testing::Values(2), testing::Values(2560, 6144, 8192, 12288, 16400),
                                          testing::Values(DType::kF32, DType::kBF16)));

// Of a sum of squares in f32: an instruction set without vectors adds one term after another.
double sum_error(std::int64_t hidden) { return hidden > 1024 ? 3e-5 : 1e-6; }

std::vector<std::int64_t> pads(std::int64_t hidden) {
  return hidden > 1024 ? std::vector<std::int64_t>{0} : std::vector<std::int64_t>{0, 1, 8};
}

TEST_P(RmsNormOf, ForwardAddsAndNormalizesLikeTheReference) {
  const auto& [rows, hidden, dtype] = GetParam();
  for (const std::int64_t pad : pads(hidden)) {
    Tensor x({rows, hidden}, pad, dtype), delta({rows, hidden}, 2 * pad, dtype), weight({hidden}, 0, dtype);
    Tensor residual({rows, hidden}, 3 * pad, dtype), y({rows, hidden}, 4 * pad, dtype), rstd({rows});
    const Values sum = sum_of(values(x.randomize(1)), values(delta.randomize(2)));
    weight.randomize(3);
    OpContext ctx = context();
    rms_norm_forward(ctx, {x, delta, weight, kEps, residual, y, rstd});
    expect_close(residual, sum, tolerance(dtype, 1e-7), "residual");
    // The norm is that of the residual as stored.
    const Reference wanted = reference(values(residual), values(weight));
    expect_close(rstd, wanted.rstd, sum_error(hidden), "rstd");
    expect_close(y, wanted.y, tolerance(dtype, sum_error(hidden)), "y");
    EXPECT_TRUE(residual.gaps_untouched() && y.gaps_untouched());
  }
}

// The gradient in closed form, from what backward reads.
struct Gradients {
  Values dx, dweight;
};
Gradients gradients(const Values& dy, const Values& residual, const Values& weight, const Values& rstd) {
  const std::size_t hidden = weight.size();
  Gradients result{Values(dy.size()), Values(hidden)};
  for (std::size_t row = 0; row < rstd.size(); ++row) {
    double mean = 0;
    for (std::size_t h = 0; h < hidden; ++h)
      mean += dy[row * hidden + h] * weight[h] * residual[row * hidden + h] * rstd[row];
    mean /= static_cast<double>(hidden);
    for (std::size_t h = 0; h < hidden; ++h) {
      const std::size_t i = row * hidden + h;
      const double normalized = residual[i] * rstd[row];
      result.dx[i] = rstd[row] * (dy[i] * weight[h] - normalized * mean);
      result.dweight[h] += dy[i] * normalized;
    }
  }
  return result;
}

TEST_P(RmsNormOf, BackwardEqualsTheFormula) {
  const auto& [rows, hidden, dtype] = GetParam();
  for (const std::int64_t pad : pads(hidden)) {
    Tensor x({rows, hidden}, pad, dtype), weight({hidden}, 0, dtype), y({rows, hidden}, 0, dtype);
    Tensor dy({rows, hidden}, 2 * pad, dtype), later({rows, hidden}, 3 * pad, dtype), rstd({rows});
    Tensor dx({rows, hidden}, 4 * pad, dtype), dweight({hidden});
    x.randomize(1);
    weight.randomize(2);
    dy.randomize(3);
    later.randomize(4);
    const Values dweight_before = values(dweight.randomize(5));
    OpContext ctx = context();
    rms_norm_forward(ctx, forward_args(x, weight, y, rstd));
    const Gradients wanted = gradients(values(dy), values(x), values(weight), values(rstd));
    for (const bool with_later : {true, false}) {
      const Workspace workspace(rms_norm_backward_workspace(rows, hidden));
      dweight.randomize(5);
      rms_norm_backward(ctx,
                        {dy, with_later ? later.view() : View(), x, weight, rstd, dx, dweight, workspace});
      // A row of one element is nearly constant (y = weight * sign): its terms of the size of rstd cancel.
      const double error = hidden == 1 ? 1e-3 : 2 * sum_error(hidden);
      expect_close(dx, with_later ? sum_of(wanted.dx, values(later)) : wanted.dx, tolerance(dtype, error),
                   "dx");
      expect_close(dweight, sum_of(wanted.dweight, dweight_before), 2 * sum_error(hidden), "dweight");
      EXPECT_TRUE(dx.gaps_untouched());
    }
  }
}

TEST(RmsNorm, BackwardEqualsCentralDifferences) {
  constexpr std::int64_t kRows = 3, kHidden = 20;
  Tensor x({kRows, kHidden}), weight({kHidden}), y({kRows, kHidden}), rstd({kRows});
  Tensor dy({kRows, kHidden}), later({kRows, kHidden}), dx({kRows, kHidden}), dweight({kHidden});
  const Values x_values = values(x.randomize(1)), weight_values = values(weight.randomize(2));
  const Values dy_values = values(dy.randomize(3)), later_values = values(later.randomize(4));
  const Workspace workspace(rms_norm_backward_workspace(kRows, kHidden));
  OpContext ctx = context();
  fill(ctx, dweight, 0);
  rms_norm_forward(ctx, forward_args(x, weight, y, rstd));
  rms_norm_backward(ctx, {dy, later, x, weight, rstd, dx, dweight, workspace});
  expect_close(dx,
               numeric_gradient(x_values,
                                [&](const Values& moved) {
                                  return dot(reference(moved, weight_values).y, dy_values) +
                                         dot(moved, later_values);
                                }),
               1e-5, "dx");
  expect_close(
      dweight,
      numeric_gradient(weight_values,
                       [&](const Values& moved) { return dot(reference(x_values, moved).y, dy_values); }),
      1e-5, "dweight");
}

// Enough that every block of a GPU goes through several rows, and their number divides nothing.
TEST(RmsNorm, BackwardSumsTheWeightGradientOverManyRows) {
  constexpr std::int64_t kRows = 1237;
  OpContext ctx = context();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const std::int64_t hidden : {8, 64, 72, 257, 320}) {
      Tensor x({kRows, hidden}, 0, dtype), weight({hidden}, 0, dtype), dy({kRows, hidden}, 0, dtype);
      Tensor y({kRows, hidden}, 0, dtype), dx({kRows, hidden}, 0, dtype), rstd({kRows}), dweight({hidden});
      x.randomize(1);
      weight.randomize(2);
      dy.randomize(3);
      fill(ctx, dweight, 1);
      const Workspace workspace(rms_norm_backward_workspace(kRows, hidden));
      rms_norm_forward(ctx, forward_args(x, weight, y, rstd));
      rms_norm_backward(ctx, {dy, {}, x, weight, rstd, dx, dweight, workspace});
      const Gradients wanted = gradients(values(dy), values(x), values(weight), values(rstd));
      expect_close(dx, wanted.dx, tolerance(dtype, 2e-6), "dx");
      expect_close(dweight, sum_of(wanted.dweight, Values(static_cast<std::size_t>(hidden), 1)), 1e-5,
                   "dweight");
    }
  }
}

// Heads of a fused projection: [T, 7 * H] of which columns 2H to 5H are 3 heads.
TEST(RmsNorm, PerHeadOnAFusedProjectionEqualsSeparateRows) {
  constexpr std::int64_t kTokens = 6, kHeads = 3, kHidden = 17;
  Tensor fused({kTokens, 7 * kHidden}), rows({kTokens, kHeads, kHidden}), weight({kHidden});
  fused.randomize(1);
  weight.randomize(2);
  const View heads = fused.view().slice(1, 2 * kHidden, 5 * kHidden).split(1, kHidden);
  OpContext ctx = context(2);
  copy(ctx, heads, rows);
  const View flat = rows.view().reshape({kTokens * kHeads, kHidden});
  Tensor y({kTokens, kHeads, kHidden}), rstd({kTokens, kHeads});
  Tensor y_flat({kTokens * kHeads, kHidden}), rstd_flat({kTokens * kHeads});
  rms_norm_forward(ctx, forward_args(heads, weight, y, rstd));
  rms_norm_forward(ctx, forward_args(flat, weight, y_flat, rstd_flat));
  expect_same_bits(y.view().reshape({kTokens * kHeads, kHidden}), y_flat, "y");

  Tensor dweight({kHidden}), dweight_flat({kHidden}), dx_flat({kTokens * kHeads, kHidden});
  Tensor dfused({kTokens, 7 * kHidden});
  fill(ctx, dweight, 0);
  fill(ctx, dweight_flat, 0);
  const View dheads = dfused.view().slice(1, 2 * kHidden, 5 * kHidden).split(1, kHidden);
  const Workspace workspace(rms_norm_backward_workspace(kTokens * kHeads, kHidden));
  rms_norm_backward(ctx, {y, {}, heads, weight, rstd, dheads, dweight, workspace});
  rms_norm_backward(ctx, {y_flat, {}, flat, weight, rstd_flat, dx_flat, dweight_flat, workspace});
  expect_same_bits(dweight, dweight_flat, "dweight");
  Tensor dheads_copy({kTokens, kHeads, kHidden});
  copy(ctx, dheads, dheads_copy);
  expect_same_bits(dheads_copy.view().reshape({kTokens * kHeads, kHidden}), dx_flat, "dx");
  for (const double outside : values(dfused.view().slice(1, 0, 2 * kHidden)))
    EXPECT_TRUE(std::isnan(outside));
}

TEST(RmsNorm, AllowsTheAliasesItsContractNames) {
  constexpr std::int64_t kRows = 4, kHidden = 65;
  Tensor x({kRows, kHidden}), delta({kRows, kHidden}), weight({kHidden}), residual({kRows, kHidden});
  Tensor y({kRows, kHidden}), y_again({kRows, kHidden}), rstd({kRows}), in_place({kRows, kHidden});
  x.randomize(1);
  delta.randomize(2);
  weight.randomize(3);
  OpContext ctx = context();
  rms_norm_forward(ctx, {x, delta, weight, kEps, residual, y, rstd});
  copy(ctx, x, in_place);
  rms_norm_forward(ctx, {in_place, delta, weight, kEps, in_place, y_again, rstd});
  expect_same_bits(in_place, residual, "residual over x");
  expect_same_bits(y_again, y, "y");
  copy(ctx, delta, in_place);
  rms_norm_forward(ctx, {x, in_place, weight, kEps, in_place, y_again, rstd});
  expect_same_bits(in_place, residual, "residual over delta");
  rms_norm_forward(ctx, forward_args(in_place, weight, in_place, rstd));
  expect_same_bits(in_place, y, "y over x");

  Tensor dx({kRows, kHidden}), dweight({kHidden});
  const Workspace workspace(rms_norm_backward_workspace(kRows, kHidden));
  fill(ctx, dweight, 0);
  rms_norm_backward(ctx, {x, delta, residual, weight, rstd, dx, dweight, workspace});
  copy(ctx, x, in_place);
  rms_norm_backward(ctx, {in_place, delta, residual, weight, rstd, in_place, dweight, workspace});
  expect_same_bits(in_place, dx, "dx over dy");
  copy(ctx, delta, in_place);
  rms_norm_backward(ctx, {x, in_place, residual, weight, rstd, in_place, dweight, workspace});
  expect_same_bits(in_place, dx, "dx over dresidual");
}

TEST(RmsNorm, GivesTheSameBitsForAnyNumberOfThreads) {
  TERROIR_CPU_ONLY();
  constexpr std::int64_t kRows = 333, kHidden = 257;
  Tensor x({kRows, kHidden}), weight({kHidden}), dy({kRows, kHidden});
  x.randomize(1);
  weight.randomize(2);
  dy.randomize(3);
  struct Result {
    Tensor y{{kRows, kHidden}}, rstd{{kRows}}, dx{{kRows, kHidden}}, dweight{{kHidden}};
  };
  const auto run = [&](int threads) {
    Result result;
    OpContext ctx = context(threads);
    fill(ctx, result.dweight, 0);
    const Workspace workspace(rms_norm_backward_workspace(kRows, kHidden));
    rms_norm_forward(ctx, forward_args(x, weight, result.y, result.rstd));
    rms_norm_backward(ctx, {dy, {}, x, weight, result.rstd, result.dx, result.dweight, workspace});
    return result;
  };
  const Result one = run(1);
  for (const int threads : {2, 3}) {
    const Result several = run(threads);
    expect_same_bits(several.y, one.y, "y");
    expect_same_bits(several.rstd, one.rstd, "rstd");
    expect_same_bits(several.dx, one.dx, "dx");
    expect_same_bits(several.dweight, one.dweight, "dweight");
  }
}

TEST(RmsNorm, TakesNoRows) {
  Tensor weight({8}), dweight({8});
  weight.randomize(1);
  const Values before = values(dweight.randomize(2));
  const View none(nullptr, DType::kF32, {0, 8}, test_device()),
      no_rstd(nullptr, DType::kF32, {0}, test_device());
  OpContext ctx = context(2);
  EXPECT_EQ(rms_norm_backward_workspace(0, 8), 0);
  rms_norm_forward(ctx, {none, none, weight, kEps, none, none, no_rstd});
  rms_norm_backward(ctx, {none, none, none, weight, no_rstd, none, dweight, {}});
  expect_close(dweight, before, 0, "dweight");
}

TEST(RmsNorm, WorkspaceStaysSmallForManyRows) {
  EXPECT_EQ(rms_norm_backward_workspace(1, 100), 400);
  EXPECT_EQ(rms_norm_backward_workspace(17, 100), 17 * 400);
  EXPECT_EQ(rms_norm_backward_workspace(1000000, 100), kRmsNormMaxParts * 400);
}

TEST(RmsNorm, ForwardRefusesWrongArgumentsAndWritesNothing) {
  Tensor x({2, 3}), weight({3}), y({2, 3}), rstd({2}), wrong({3, 2}), four({2, 1, 1, 3});
  x.randomize(1);
  weight.randomize(2);
  OpContext ctx = context();
  const auto refused = [&](const RmsNormForwardArgs& args, const std::string& words) {
    expect_refused([&] { rms_norm_forward(ctx, args); }, "rms_norm_forward: " + words);
  };
  refused(forward_args(four, weight, y, rstd), "x is f32[2, 1, 1, 3], must have rank 2 or 3");
  refused(forward_args(x, rstd, y, rstd), "weight is f32[2], must be f32[3]");
  refused(forward_args(x, weight, wrong, rstd), "y is f32[3, 2], its shape must be that of f32[2, 3]");
  refused(forward_args(x, weight, y, weight), "rstd is f32[3], must be f32[2]");
  refused({x, x, weight, kEps, {}, y, rstd}, "residual_out must be given if and only if delta is");
  refused({x, {}, weight, kEps, y, y, rstd}, "residual_out must be given if and only if delta is");
  refused({x, wrong, weight, kEps, y, y, rstd}, "delta is f32[3, 2]");
  const Tensor half({2, 3}, 0, DType::kBF16);
  refused(forward_args(half, weight, y, rstd), "weight is f32[3], its dtype must be bf16");
  refused(forward_args(x, weight, half, rstd), "y is bf16[2, 3], its dtype must be f32");
  refused(forward_args(IntTensor({2, 3}, {1, 2, 3, 4, 5, 6}), weight, y, rstd),
          "x is i32[2, 3], its dtype must be f32 or bf16");
  for (const double value : values(y)) EXPECT_TRUE(std::isnan(value));
}

TEST(RmsNorm, BackwardRefusesWrongArgumentsAndWritesNothing) {
  Tensor x({2, 3}), weight({3}), dx({2, 3}), rstd({2}), wrong({3, 2}), dweight({3});
  x.randomize(1);
  weight.randomize(2);
  rstd.randomize(3);
  OpContext ctx = context();
  const Workspace workspace(24), small(23);
  const auto refused = [&](const RmsNormBackwardArgs& args, const std::string& words) {
    expect_refused([&] { rms_norm_backward(ctx, args); }, "rms_norm_backward: " + words);
  };
  refused({x, wrong, x, weight, rstd, dx, dweight, workspace}, "dresidual is f32[3, 2]");
  refused({x, {}, wrong, weight, rstd, dx, dweight, workspace}, "residual is f32[3, 2]");
  refused({x, {}, x, rstd, rstd, dx, dweight, workspace}, "weight is f32[2], must be f32[3]");
  refused({x, {}, x, weight, rstd, wrong, dweight, workspace}, "dx is f32[3, 2]");
  refused({x, {}, x, weight, rstd, dx, rstd, workspace}, "dweight is f32[2], must be f32[3]");
  refused({x, {}, x, weight, rstd, dx, dweight, small}, "workspace is u8[23], must be u8[24] or longer");
  for (const double value : values(dx)) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace terroir::test
