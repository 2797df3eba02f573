#include "kernels/adamw/adamw.h"

#include "kernels/tensor/elementwise.h"
#include "tests/kernels/expect_refused.h"
#include "tests/kernels/on_device.h"

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
  explicit Tensors(std::int64_t n)
      : params({n}), grads({n}), exp_avg({n}), exp_avg_sq({n}), params_bf16({n}, 0, DType::kBF16) {
    const std::vector<float> zeros(static_cast<std::size_t>(n));
    params.randomize(1);
    exp_avg.assign(zeros);
    exp_avg_sq.assign(zeros);
  }
  // Elements [begin, end).
  AdamWArgs args(const StepScalars* device_scalars, const AdamWOptions& options, std::int64_t begin,
                 std::int64_t end) const {
    const auto part = [&](const Tensor& tensor) { return tensor.view().slice(0, begin, end); };
    return {part(params),      part(grads),    part(exp_avg), part(exp_avg_sq),
            part(params_bf16), device_scalars, options};
  }
  AdamWArgs args(const StepScalars* device_scalars, const AdamWOptions& options) const {
    return args(device_scalars, options, 0, params.view().numel());
  }
  void step(const StepScalars& scalars, const AdamWOptions& options, int threads = 1, bool with_bf16 = true) {
    OpContext ctx = context(threads);
    const OnDevice<StepScalars> on_device({scalars});
    AdamWArgs all = args(on_device.data(), options);
    if (!with_bf16) all.params_bf16 = View();
    adamw(ctx, all);
    synchronize(ctx.stream);
  }

  Tensor params, grads, exp_avg, exp_avg_sq, params_bf16;
};

bool all_nan(const ConstView& view) {
  const Values elements = values(view);
  return std::all_of(elements.begin(), elements.end(), [](double value) { return std::isnan(value); });
}

class AdamWOf : public testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(Sizes, AdamWOf, testing::Values(0, 1, 3, 63, 64, 65, 257, 9001));

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
    const Values second = values(tensors.exp_avg_sq);
    for (std::size_t i = 0; i < wanted.exp_avg_sq.size(); ++i)
      ASSERT_NEAR(second[i] / wanted.exp_avg_sq[i], 1, 1e-6);
  }
}

TEST(AdamW, FirstStepMovesByTheLearningRateWhateverTheGradient) {
  Tensors tensors(2);
  tensors.params.assign({1, 1});
  tensors.grads.assign({0.5F, -1e-3F});
  // m / bias_correction1 = g and v / bias_correction2 = g^2, so p = 1 - 0.1 * 0.2 * 1 - 0.1 * sign(g).
  StepScalars scalars = {.learning_rate = 0.1F, .bias_correction1 = 0.1F, .bias_correction2 = 0.001F};
  tensors.step(scalars, {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-12, .weight_decay = 0.2});
  expect_close(tensors.params, {0.88, 1.08}, 1e-6, "params");
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
  Values rounded = values(with.params);
  for (double& value : rounded) value = rounded_to_bf16(static_cast<float>(value));
  expect_close(with.params_bf16, rounded, 0, "params_bf16");
  EXPECT_TRUE(all_nan(without.params_bf16));
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
  EXPECT_TRUE(all_nan(tensors.params_bf16));
}

constexpr std::int64_t kCount = 30001;

// After one step.
Tensors after_a_step(int threads) {
  const AdamWOptions options = {.weight_decay = 0.1};
  Tensors tensors(kCount);
  tensors.grads.randomize(2);
  tensors.step(scalars_of_step(3, options), options, threads);
  return tensors;
}

TEST(AdamW, GivesTheSameBitsForAnyNumberOfThreads) {
  TERROIR_CPU_ONLY();
  const Tensors one = after_a_step(1);
  for (const int threads : {2, 3}) expect_same_bits(after_a_step(threads).params, one.params, "params");
}

TEST(AdamW, GivesTheSameBitsForAnyCutInOneCallOrSeveral) {
  const Tensors whole = after_a_step(1);
  const AdamWOptions options = {.weight_decay = 0.1};
  const OnDevice<StepScalars> scalars({scalars_of_step(3, options)});
  for (const bool one_call : {true, false}) {
    Tensors cut(kCount);
    cut.grads.randomize(2);
    std::vector<AdamWArgs> list;
    std::int64_t begin = 0;
    for (const std::int64_t end : {777, 777, 780, 8972, 30000, 30001}) {  // not all aligned; one is empty
      list.push_back(cut.args(scalars.data(), options, begin, end));
      begin = end;
    }
    OpContext ctx = context(2);
    if (one_call) {
      adamw(ctx, list);
    } else {
      for (const AdamWArgs& args : list) adamw(ctx, args);
    }
    expect_same_bits(cut.params, whole.params, "params");
    expect_same_bits(cut.exp_avg, whole.exp_avg, "exp_avg");
    expect_same_bits(cut.exp_avg_sq, whole.exp_avg_sq, "exp_avg_sq");
    expect_same_bits(cut.params_bf16, whole.params_bf16, "params_bf16");
  }
}

TEST(AdamW, AListOfManyTensorsUsesTheOptionsAndScalarsOfEach) {
  constexpr int kTensors = 100, kElements = 70;  // more than one launch takes
  const StepScalars both[] = {scalars_of_step(1, {}), scalars_of_step(2, {})};
  const OnDevice<StepScalars> scalars({both[0], both[1]});
  const auto options = [](int i) { return AdamWOptions{.weight_decay = 0.01 * i}; };
  std::vector<Tensors> tensors;
  std::vector<AdamWArgs> list;
  for (int i = 0; i < kTensors; ++i) {
    tensors.emplace_back(kElements).grads.randomize(static_cast<std::uint32_t>(i));
    list.push_back(tensors.back().args(scalars.data() + i % 2, options(i)));
  }
  OpContext ctx = context();
  adamw(ctx, list);
  for (int i = 0; i < kTensors; ++i) {
    Tensors alone(kElements);
    alone.grads.randomize(static_cast<std::uint32_t>(i));
    alone.step(both[i % 2], options(i));
    expect_same_bits(tensors[static_cast<std::size_t>(i)].params, alone.params, "params");
  }
}

TEST_P(AdamWOf, GradientsMayBeBf16) {
  const std::int64_t n = GetParam();
  Tensors wide(n), half(n);
  half.grads = Tensor({n}, 0, DType::kBF16);
  half.grads.randomize(2);
  std::vector<float> rounded;
  for (const double value : values(half.grads)) rounded.push_back(static_cast<float>(value));
  wide.grads.assign(rounded);
  const AdamWOptions options = {.weight_decay = 0.1};
  for (Tensors* tensors : {&wide, &half}) tensors->step(scalars_of_step(2, options), options);
  expect_same_bits(half.params, wide.params, "params");
  expect_same_bits(half.exp_avg_sq, wide.exp_avg_sq, "exp_avg_sq");
  expect_same_bits(half.params_bf16, wide.params_bf16, "params_bf16");
}

// Rounds up when the bits that are cut off and these 16 together carry: Wellons' lowbias32, in plain words.
float rounded_stochastically(float value, std::uint32_t seed, std::uint32_t element) {
  std::uint32_t x = seed + element * 0x9E3779B9U, bits;
  x ^= x >> 16;
  x *= 0x7FEB352DU;
  x ^= x >> 15;
  x *= 0x846CA68BU;
  x ^= x >> 16;
  std::memcpy(&bits, &value, 4);
  bits = (bits + (x >> 16)) & 0xFFFF0000U;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Parameters kept in bf16, and f32 ones of the same values.
struct Bf16Tensors {
  explicit Bf16Tensors(std::int64_t n) : half(n), wide(n) {
    half.params = Tensor({n}, 0, DType::kBF16);
    half.params.randomize(1);
    std::vector<float> start;
    for (const double value : values(half.params)) start.push_back(static_cast<float>(value));
    wide.params.assign(start);
    for (Tensors* tensors : {&half, &wide}) tensors->grads.randomize(2);
  }
  Tensors half, wide;
};

TEST_P(AdamWOf, Bf16ParametersAreTheF32OnesRoundedStochastically) {
  Bf16Tensors both(GetParam());
  const AdamWOptions options = {.weight_decay = 0.1};
  StepScalars scalars = scalars_of_step(2, options);
  scalars.rounding_seed = 0x12345678;
  both.wide.step(scalars, options, 1, false);
  both.half.step(scalars, options, 3, false);
  Values wanted = values(both.wide.params);
  std::uint32_t element = 0;
  for (double& value : wanted)
    value = rounded_stochastically(static_cast<float>(value), scalars.rounding_seed, element++);
  expect_close(both.half.params, wanted, 0, "params");
  expect_same_bits(both.half.exp_avg, both.wide.exp_avg, "exp_avg");
}

TEST(AdamW, Bf16ParametersAreRightOnAverageAndTheCutChangesNoBit) {
  Bf16Tensors both(kCount);
  const AdamWOptions options;
  StepScalars scalars = scalars_of_step(2, options);
  scalars.learning_rate = 1e-4F;  // elements move by 7e-5, far less than half of most ones' bf16 spacing
  scalars.rounding_seed = 7;
  both.wide.step(scalars, options, 1, false);
  Tensors cut = Bf16Tensors(kCount).half;
  both.half.step(scalars, options, 1, false);
  const Values exact = values(both.wide.params), rounded = values(both.half.params);
  const Values before = values(cut.params);
  double wanted = 0, moved = 0;  // the way that elements go, summed
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double direction = exact[i] > before[i] ? 1 : -1;
    wanted += direction * (exact[i] - before[i]);
    moved += direction * (rounded[i] - before[i]);
  }
  // The standard deviation is below sqrt(7e-5 2^-8) sqrt(30001) = 0.09, of a way of 2.2. Rounded to nearest,
  // all but small elements would stay where they are.
  EXPECT_GT(wanted, 1.5);
  EXPECT_NEAR(moved / wanted, 1, 0.2);
  const OnDevice<StepScalars> on_device({scalars});
  std::vector<AdamWArgs> list;
  std::int64_t begin = 0;
  for (const std::int64_t end : {777, 780, 8972, 30001}) {
    AdamWArgs args = cut.args(on_device.data(), options, begin, end);
    args.params_bf16 = View();
    args.first_element = static_cast<std::uint32_t>(begin);
    list.push_back(args);
    begin = end;
  }
  OpContext ctx = context(2);
  adamw(ctx, list);
  expect_same_bits(cut.params, both.half.params, "params");
}

TEST(AdamW, Bf16ParametersWithBf16GradientsKeepInfinities) {
  Bf16Tensors both(9);
  both.half.grads = Tensor({9}, 0, DType::kBF16);
  both.half.grads.randomize(2);
  both.half.params.assign({INFINITY, -INFINITY, NAN, 1, 1, 1, 1, 1, INFINITY});
  const AdamWOptions options;
  both.half.step(scalars_of_step(2, options), options, 1, false);
  const Values params = values(both.half.params);
  EXPECT_EQ(params[0], INFINITY);
  EXPECT_EQ(params[1], -INFINITY);
  EXPECT_TRUE(std::isnan(params[2]));
  EXPECT_EQ(params[8], INFINITY);
  EXPECT_NEAR(params[3], 1, 0.02);
}

TEST(AdamW, RefusesWrongArgumentsAndWritesNothing) {
  Tensors tensors(4);
  tensors.grads.randomize(2);
  const Values before = values(tensors.params);
  const OnDevice<StepScalars> scalars({scalars_of_step(1, {})});
  const AdamWArgs good = tensors.args(scalars.data(), {});
  OpContext ctx = context();
  const auto refused = [&](auto change, const std::string& words) {
    AdamWArgs args = good;
    change(args);
    const AdamWArgs list[] = {good, args};
    expect_refused([&] { adamw(ctx, args); }, "adamw: " + words);
    expect_refused([&] { adamw(ctx, list); }, "adamw: " + words);
  };
  const Tensor three({3});
  refused(
      [&](AdamWArgs& args) {
        args.params = args.params.reshape({2, 2});
      },
      "params is f32[2, 2], must be f32[*]");
  refused([&](AdamWArgs& args) { args.grads = three; }, "grads is f32[3], its shape must be that of f32[4]");
  const IntTensor numbers({4}, {1, 2, 3, 4});
  refused([&](AdamWArgs& args) { args.grads = numbers; }, "grads is i32[4], its dtype must be f32 or bf16");
  refused([&](AdamWArgs& args) { args.params = args.params_bf16; },
          "params_bf16 beside params that are bf16[4]");
  refused([&](AdamWArgs& args) { args.exp_avg = three; }, "exp_avg is f32[3]");
  refused([&](AdamWArgs& args) { args.exp_avg_sq = three; }, "exp_avg_sq is f32[3]");
  refused([&](AdamWArgs& args) { args.params_bf16 = args.params; },
          "params_bf16 is f32[4], its dtype must be bf16");
  refused([&](AdamWArgs& args) { args.scalars = nullptr; }, "scalars must be given");
  expect_close(tensors.params, before, 0, "params");
}

}  // namespace
}  // namespace terroir::test
