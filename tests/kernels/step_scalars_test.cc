#include "kernels/step_scalars/step_scalars.h"

#include "tests/kernels/expect_refused.h"
#include "tests/kernels/on_device.h"

namespace terroir::test {
namespace {

struct Result {
  StepScalars scalars;
  double grad_norm = 0;
};

// Two sources: losses, targets and bytes of each, then the squared norm.
Result run(const std::vector<double>& totals, double loss_scale, double grad_clip) {
  const OnDevice<double> block(totals), grad_norm({-1});
  const OnDevice<float> rates({0.125F, 0.5F, 0.25F});
  const OnDevice<std::int32_t> seed({-3});
  StepScalars poison;
  poison.skip = 7;
  const OnDevice<StepScalars> scalars({poison});
  OpContext ctx = context();
  step_scalars(ctx, {.totals = block.view(),
                     .num_sources = 2,
                     .rates = rates.view(),
                     .rounding_seed = seed.view(),
                     .loss_scale = loss_scale,
                     .grad_clip = grad_clip,
                     .grad_norm = grad_norm.view(),
                     .scalars = scalars.data()});
  return {scalars.values()[0], grad_norm.values()[0]};
}

TEST(StepScalars, ScalesToTheMeanOverTheTargetsThereWere) {
  // 6 + 2 = 8 targets and a scale of 1/16: gradients are to be doubled; norm 2 sqrt(9) = 6.
  const Result result = run({3, 4, 6, 2, 0, 0, 9}, 1.0 / 16, 0);
  EXPECT_EQ(result.grad_norm, 6);
  EXPECT_EQ(result.scalars.grad_scale, 2);
  EXPECT_EQ(result.scalars.skip, 0);
  EXPECT_EQ(result.scalars.learning_rate, 0.125F);
  EXPECT_EQ(result.scalars.bias_correction1, 0.5F);
  EXPECT_EQ(result.scalars.bias_correction2, 0.25F);
  EXPECT_EQ(result.scalars.rounding_seed, 0xFFFFFFFDU);
}

TEST(StepScalars, ClipsToTheLargestNorm) {
  EXPECT_EQ(run({3, 4, 6, 2, 0, 0, 9}, 1.0 / 16, 1.5).scalars.grad_scale, 0.5F);  // 2 * 1.5 / 6
  EXPECT_EQ(run({3, 4, 6, 2, 0, 0, 9}, 1.0 / 16, 1.5).grad_norm, 6);
  EXPECT_EQ(run({3, 4, 6, 2, 0, 0, 9}, 1.0 / 16, 6).scalars.grad_scale, 2);
}

TEST(StepScalars, SkipsWhatIsNotFiniteAndAStepWithoutTargets) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = INFINITY;
  EXPECT_NE(run({3, 4, 6, 2, 0, 0, nan}, 1, 1).scalars.skip, 0);
  EXPECT_NE(run({3, 4, 6, 2, 0, 0, inf}, 1, 1).scalars.skip, 0);
  EXPECT_NE(run({inf, 4, 6, 2, 0, 0, 9}, 1, 1).scalars.skip, 0);
  EXPECT_NE(run({3, nan, 6, 2, 0, 0, 9}, 1, 1).scalars.skip, 0);
  const Result empty = run({0, 0, 0, 0, 0, 0, 0}, 1, 1);
  EXPECT_NE(empty.scalars.skip, 0);
  EXPECT_EQ(empty.scalars.grad_scale, 0);
  EXPECT_EQ(empty.grad_norm, 0);
}

TEST(StepScalars, RefusesWrongArgumentsAndWritesNothing) {
  const OnDevice<double> totals(std::vector<double>(7)), grad_norm({-1});
  const OnDevice<float> rates({0, 1, 1});
  const OnDevice<std::int32_t> seed({1});
  const OnDevice<StepScalars> scalars({StepScalars{.skip = 7}});
  const StepScalarsArgs good = {totals.view(), 2, rates.view(), seed.view(), 1, 0, grad_norm.view(),
                                scalars.data()};
  OpContext ctx = context();
  const auto refused = [&](auto change, const std::string& words) {
    StepScalarsArgs args = good;
    change(args);
    expect_refused([&] { step_scalars(ctx, args); }, "step_scalars: " + words);
  };
  refused([](StepScalarsArgs& args) { args.num_sources = 3; }, "totals is f64[7] for 3 sources");
  refused([](StepScalarsArgs& args) { args.num_sources = 0; }, "totals is f64[7] for 0 sources");
  refused([](StepScalarsArgs& args) { args.totals = args.rates; }, "totals is f32[3], its dtype must be f64");
  refused([](StepScalarsArgs& args) { args.rates = args.totals; }, "rates is f64[7], must be f32[3]");
  refused([](StepScalarsArgs& args) { args.rounding_seed = args.rates; }, "rounding_seed is f32[3]");
  refused([&](StepScalarsArgs& args) { args.grad_norm = totals.view(); }, "grad_norm is f64[7]");
  refused([](StepScalarsArgs& args) { args.scalars = nullptr; }, "scalars must be given");
  EXPECT_EQ(grad_norm.values()[0], -1);
  EXPECT_EQ(scalars.values()[0].skip, 7);
}

}  // namespace
}  // namespace terroir::test
