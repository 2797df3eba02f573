#include "kernels/adamw/adamw.h"

#include <cstring>

#include "kernels/tensor/elementwise.h"
#include "tests/kernels/expect_refused.h"
#include "tests/kernels/test_tensor.h"

namespace terroir::test {
namespace {

using Values = std::vector<double>;

StepScalars scalars_of_step(int step, const AdamWOptions& options) {
  StepScalars scalars;
  scalars.learning_rate = 0.01F / static_cast<float>(step);
  scalars.bias_correction1 = static_cast<float>(1 - std::pow(options.beta1, step));
  scalars.bias_correction2 = static_cast<float>(1 - std::pow(options.beta2, step));
  scalars.grad_scale = 0.5F;
  return scalars;
}

struct State {
  Values params, exp_avg, exp_avg_sq;
};

void reference_step(State& state, const Values& grads, const StepScalars& scalars,
                    const AdamWOptions& options) {
  for (std::size_t i = 0; i < grads.size(); ++i) {
    const double g = grads[i] * scalars.grad_scale;
    double& m = state.exp_avg[i];
    double& v = state.exp_avg_sq[i];
    m = options.beta1 * m + (1 - options.beta1) * g;
    v = options.beta2 * v + (1 - options.beta2) * g * g;
    state.params[i] -= scalars.learning_rate * options.weight_decay * state.params[i];
    state.params[i] -= scalars.learning_rate * (m / scalars.bias_correction1) /
                       (std::sqrt(v / scalars.bias_correction2) + options.eps);
  }
}

// Parameters and optimizer state of n elements, moments zero.
struct Tensors {
  explicit Tensors(std::int64_t n) : params({n}), grads({n}), exp_avg({n}), exp_avg_sq({n}), bf16(2 * n) {
    OpContext ctx = context();
    params.randomize(1);
    fill(ctx, exp_avg, 0);
    fill(ctx, exp_avg_sq, 0);
    params_bf16 = bf16.view(DType::kBF16, {n});
  }
  void step(const StepScalars& scalars, const AdamWOptions& options, int threads = 1, bool with_bf16 = true) {
    OpContext ctx = context(threads);
    adamw(ctx, {.params = params,
                .grads = grads,
                .exp_avg = exp_avg,
                .exp_avg_sq = exp_avg_sq,
                .params_bf16 = with_bf16 ? params_bf16 : View(),
                .scalars = &scalars,
                .options = options});
  }

  Tensor params, grads, exp_avg, exp_avg_sq;
  Buffer bf16;
  View params_bf16;
};

class AdamWOf : public testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(Sizes, AdamWOf, testing::Values(1, 3, 63, 64, 65, 257));

TEST_P(AdamWOf, FollowsTheReferenceOverSeveralSteps) {
  const std::int64_t n = GetParam();
  const AdamWOptions options = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1};
  Tensors tensors(n);
  State wanted = {values(tensors.params), Values(n), Values(n)};
  for (int step = 1; step <= 5; ++step) {
    const StepScalars scalars = scalars_of_step(step, options);
    reference_step(wanted, values(tensors.grads.randomize(10 + step)), scalars, options);
    tensors.step(scalars, options);
    expect_close(tensors.params, wanted.params, 1e-6, "params");
    expect_close(tensors.exp_avg, wanted.exp_avg, 1e-6, "exp_avg");
    for (std::size_t i = 0; i < wanted.exp_avg_sq.size(); ++i)
      ASSERT_NEAR(values(tensors.exp_avg_sq)[i] / wanted.exp_avg_sq[i], 1, 1e-6);
  }
}

TEST(AdamW, FirstStepMovesByTheLearningRateWhateverTheGradient) {
  Tensors tensors(2);
  float* params = tensors.params.view().data<float>();
  float* grads = tensors.grads.view().data<float>();
  params[0] = 1, params[1] = 1;
  grads[0] = 0.5, grads[1] = -1e-3F;
  // m / bias_correction1 = g and v / bias_correction2 = g^2, so p = 1 - 0.1 * 0.2 * 1 - 0.1 * sign(g).
  StepScalars scalars = {.learning_rate = 0.1F, .bias_correction1 = 0.1F, .bias_correction2 = 0.001F};
  tensors.step(scalars, {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-12, .weight_decay = 0.2});
  EXPECT_NEAR(params[0], 0.88, 1e-6);
  EXPECT_NEAR(params[1], 1.08, 1e-6);
}

TEST_P(AdamWOf, Bf16CopyIsTheRoundedParameter) {
  const std::int64_t n = GetParam();
  Tensors with(n), without(n);
  with.grads.randomize(2);
  without.grads.randomize(2);
  const AdamWOptions options;
  with.step(scalars_of_step(1, options), options);
  without.step(scalars_of_step(1, options), options, 1, false);
  expect_same_bits(with.params, without.params, "params");
  Buffer rounded(2 * n);
  OpContext ctx = context();
  cast(ctx, with.params, rounded.view(DType::kBF16, {n}));
  EXPECT_EQ(std::memcmp(rounded.raw(), with.bf16.raw(), static_cast<std::size_t>(2 * n)), 0);
  for (std::int64_t i = 0; i < n; ++i) EXPECT_EQ(without.params_bf16.data<BFloat16>()[i].bits, 0);
}

TEST(AdamW, SkipFlagWritesNothing) {
  Tensors tensors(100);
  tensors.grads.randomize(2);
  const Values params = values(tensors.params);
  StepScalars scalars = scalars_of_step(1, {});
  scalars.skip = 1;
  tensors.step(scalars, {.weight_decay = 0.1});
  expect_close(tensors.params, params, 0, "params");
  expect_close(tensors.exp_avg, Values(100), 0, "exp_avg");
  expect_close(tensors.exp_avg_sq, Values(100), 0, "exp_avg_sq");
  for (int i = 0; i < 100; ++i) EXPECT_EQ(tensors.params_bf16.data<BFloat16>()[i].bits, 0);
}

TEST(AdamW, GivesTheSameBitsForAnyNumberOfThreadsAndAnyCut) {
  constexpr std::int64_t kCount = 30001;
  const AdamWOptions options = {.weight_decay = 0.1};
  const StepScalars scalars = scalars_of_step(3, options);
  Tensors one(kCount);
  one.grads.randomize(2);
  one.step(scalars, options);
  for (const int threads : {2, 3}) {
    Tensors several(kCount);
    several.grads.randomize(2);
    several.step(scalars, options, threads);
    expect_same_bits(several.params, one.params, "params");
  }
  Tensors cut(kCount);
  cut.grads.randomize(2);
  OpContext ctx = context();
  for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{0, 777}, {777, kCount}})
    adamw(ctx, {cut.params.view().slice(0, begin, end), cut.grads.view().slice(0, begin, end),
                cut.exp_avg.view().slice(0, begin, end), cut.exp_avg_sq.view().slice(0, begin, end), View(),
                &scalars, options});
  expect_same_bits(cut.params, one.params, "params in two parts");
}

TEST(AdamW, RefusesWrongArgumentsAndWritesNothing) {
  Tensors tensors(4);
  tensors.grads.randomize(2);
  const Values before = values(tensors.params);
  const StepScalars scalars = scalars_of_step(1, {});
  const AdamWArgs good = {
      tensors.params, tensors.grads, tensors.exp_avg, tensors.exp_avg_sq, tensors.params_bf16, &scalars, {}};
  OpContext ctx = context();
  const auto refused = [&](auto change, const std::string& words) {
    AdamWArgs args = good;
    change(args);
    expect_refused([&] { adamw(ctx, args); }, "adamw: " + words);
  };
  const Tensor three({3});
  refused(
      [&](AdamWArgs& args) {
        args.params = args.params.reshape({2, 2});
      },
      "params is f32[2, 2], must be f32[*]");
  refused([&](AdamWArgs& args) { args.grads = three; }, "grads is f32[3], its shape must be that of f32[4]");
  refused([&](AdamWArgs& args) { args.grads = tensors.params_bf16; },
          "grads is bf16[4], its dtype must be f32");
  refused([&](AdamWArgs& args) { args.exp_avg = three; }, "exp_avg is f32[3]");
  refused([&](AdamWArgs& args) { args.exp_avg_sq = three; }, "exp_avg_sq is f32[3]");
  refused([&](AdamWArgs& args) { args.params_bf16 = args.params; },
          "params_bf16 is f32[4], its dtype must be bf16");
  refused([&](AdamWArgs& args) { args.scalars = nullptr; }, "scalars must be given");
  expect_close(tensors.params, before, 0, "params");
}

}  // namespace
}  // namespace terroir::test
