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

class RmsNormOf : public testing::TestWithParam<std::tuple<std::int64_t, std::int64_t>> {};
INSTANTIATE_TEST_SUITE_P(Sizes, RmsNormOf,
                         testing::Combine(testing::Values(1, 5), testing::Values(1, 3, 63, 64, 65, 257)));

TEST_P(RmsNormOf, ForwardAddsAndNormalizesLikeTheReference) {
  const auto& [rows, hidden] = GetParam();
  Tensor x({rows, hidden}, 1), delta({rows, hidden}, 2), weight({hidden});
  Tensor residual({rows, hidden}, 3), y({rows, hidden}, 4), rstd({rows});
  const Values wanted_residual = sum_of(values(x.randomize(1)), values(delta.randomize(2)));
  const Reference wanted = reference(wanted_residual, values(weight.randomize(3)));
  OpContext ctx = context();
  rms_norm_forward(ctx, {x, delta, weight, kEps, residual, y, rstd});
  expect_close(residual, wanted_residual, 1e-7, "residual");
  expect_close(rstd, wanted.rstd, 1e-6, "rstd");
  expect_close(y, wanted.y, 1e-6, "y");
  EXPECT_TRUE(residual.gaps_untouched() && y.gaps_untouched());
}

TEST_P(RmsNormOf, BackwardEqualsCentralDifferences) {
  const auto& [rows, hidden] = GetParam();
  Tensor x({rows, hidden}, 1), weight({hidden}), y({rows, hidden}), rstd({rows});
  Tensor dy({rows, hidden}, 2), dresidual({rows, hidden}, 3), dx({rows, hidden}, 4), dweight({hidden});
  const Values x_values = values(x.randomize(1)), weight_values = values(weight.randomize(2));
  const Values dy_values = values(dy.randomize(3)), dresidual_values = values(dresidual.randomize(4));
  const Values dweight_before = values(dweight.randomize(5));
  const Workspace workspace(rms_norm_backward_workspace(rows, hidden));
  OpContext ctx = context();
  rms_norm_forward(ctx, forward_args(x, weight, y, rstd));
  rms_norm_backward(ctx, {dy, dresidual, x, weight, rstd, dx, dweight, workspace});

  const Values dx_wanted = numeric_gradient(x_values, [&](const Values& moved) {
    return dot(reference(moved, weight_values).y, dy_values) + dot(moved, dresidual_values);
  });
  const Values dweight_added = numeric_gradient(
      weight_values, [&](const Values& moved) { return dot(reference(x_values, moved).y, dy_values); });
  // A row of one element is nearly constant (y = weight * sign): its terms of the size of rstd cancel.
  expect_close(dx, dx_wanted, hidden == 1 ? 1e-3 : 1e-5, "dx");
  expect_close(dweight, sum_of(dweight_added, dweight_before), 1e-5, "dweight");
  EXPECT_TRUE(dx.gaps_untouched());
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
  const View none(nullptr, DType::kF32, {0, 8}), no_rstd(nullptr, DType::kF32, {0});
  OpContext ctx = context(2);
  EXPECT_EQ(rms_norm_backward_workspace(0, 8), 0);
  rms_norm_forward(ctx, {none, none, weight, kEps, none, none, no_rstd});
  rms_norm_backward(ctx, {none, none, none, weight, no_rstd, none, dweight, {}});
  expect_close(dweight, before, 0, "dweight");
}

TEST(RmsNorm, WorkspaceStaysSmallForManyRows) {
  EXPECT_EQ(rms_norm_backward_workspace(1, 100), 400);
  EXPECT_EQ(rms_norm_backward_workspace(17, 100), 800);  // blocks of 16 rows
  EXPECT_LE(rms_norm_backward_workspace(1000000, 100), 64 * 400);
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
  Buffer half(64);
  refused(forward_args(half.view(DType::kBF16, {2, 3}), weight, y, rstd),
          "x is bf16[2, 3], its dtype must be f32");
  for (const double value : values(y)) EXPECT_TRUE(std::isnan(value));
}

TEST(RmsNorm, BackwardRefusesWrongArgumentsAndWritesNothing) {
  Tensor x({2, 3}), weight({3}), dx({2, 3}), rstd({2}), wrong({3, 2}), dweight({3});
  x.randomize(1);
  weight.randomize(2);
  rstd.randomize(3);
  OpContext ctx = context();
  const Workspace workspace(12), small(11);
  const auto refused = [&](const RmsNormBackwardArgs& args, const std::string& words) {
    expect_refused([&] { rms_norm_backward(ctx, args); }, "rms_norm_backward: " + words);
  };
  refused({x, wrong, x, weight, rstd, dx, dweight, workspace}, "dresidual is f32[3, 2]");
  refused({x, {}, wrong, weight, rstd, dx, dweight, workspace}, "residual is f32[3, 2]");
  refused({x, {}, x, rstd, rstd, dx, dweight, workspace}, "weight is f32[2], must be f32[3]");
  refused({x, {}, x, weight, rstd, wrong, dweight, workspace}, "dx is f32[3, 2]");
  refused({x, {}, x, weight, rstd, dx, rstd, workspace}, "dweight is f32[2], must be f32[3]");
  refused({x, {}, x, weight, rstd, dx, dweight, small}, "workspace is u8[11], must be u8[12] or longer");
  for (const double value : values(dx)) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace terroir::test
