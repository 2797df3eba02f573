#include "kernels/swiglu/swiglu.h"

#include <cfloat>

#include "kernels/tensor/elementwise.h"
#include "tests/kernels/expect_refused.h"
#include "tests/kernels/numeric_gradient.h"
#include "tests/kernels/test_tensor.h"

namespace terroir::test {
namespace {

using Values = std::vector<double>;

Values reference(const Values& gate, const Values& up) {
  Values out;
  for (std::size_t i = 0; i < gate.size(); ++i) out.push_back(gate[i] / (1 + std::exp(-gate[i])) * up[i]);
  return out;
}

class SwigluOf : public testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(Sizes, SwigluOf, testing::Values(1, 3, 63, 64, 65, 257));

TEST_P(SwigluOf, ForwardOnHalvesOfAFusedProjectionEqualsTheReference) {
  const std::int64_t size = GetParam();
  Tensor fused({3, 2 * size}), out({3, size}, 5);
  fused.randomize(1, 6);
  const View gate = fused.view().slice(1, 0, size), up = fused.view().slice(1, size, 2 * size);
  OpContext ctx = context();
  swiglu_forward(ctx, {gate, up, out});
  expect_close(out, reference(values(gate), values(up)), 1e-6, "out");
  EXPECT_TRUE(out.gaps_untouched());
}

TEST_P(SwigluOf, BackwardEqualsCentralDifferences) {
  const std::int64_t size = GetParam();
  Tensor gate({2, size}, 1), up({2, size}, 2), dout({2, size}, 3), dgate({2, size}, 4), dup({2, size}, 5);
  const Values g = values(gate.randomize(1, 4)), u = values(up.randomize(2)), d = values(dout.randomize(3));
  OpContext ctx = context();
  swiglu_backward(ctx, {dout, gate, up, dgate, dup});
  expect_close(dgate, numeric_gradient(g, [&](const Values& moved) { return dot(reference(moved, u), d); }),
               1e-6, "dgate");
  expect_close(dup, numeric_gradient(u, [&](const Values& moved) { return dot(reference(g, moved), d); }),
               1e-6, "dup");
  EXPECT_TRUE(dgate.gaps_untouched() && dup.gaps_untouched());
}

TEST(Swiglu, KeepsFullRelativeAccuracyFarFromZero) {
  const float gates[] = {-80, -20, -1e-30F, 0, 1e-30F, 20, 80, 200, FLT_MAX, -200, -FLT_MAX};
  constexpr std::int64_t kCount = std::size(gates);
  const std::vector<float> ones(kCount, 1);
  Tensor out({1, kCount}), dgate({1, kCount}), dup({1, kCount});
  OpContext ctx = context();
  const ConstView gate(gates, DType::kF32, {1, kCount}), one(ones.data(), DType::kF32, {1, kCount});
  swiglu_forward(ctx, {gate, one, out});
  swiglu_backward(ctx, {one, gate, one, dgate, dup});
  for (std::int64_t i = 0; i < kCount; ++i) {
    const double g = gates[i], s = 1 / (1 + std::exp(-g));
    const double silu = g * s, slope = s + silu / (1 + std::exp(g));
    EXPECT_NEAR(values(out)[i], silu, 5e-7 * std::fabs(silu) + FLT_MIN) << g;
    EXPECT_NEAR(values(dgate)[i], slope, 5e-7 * std::fabs(slope) + FLT_MIN) << g;
  }
}

TEST(Swiglu, PassesNanOn) {
  const float nan[] = {std::numeric_limits<float>::quiet_NaN()}, one[] = {1};
  const ConstView gate(nan, DType::kF32, {1, 1}), up(one, DType::kF32, {1, 1});
  Tensor out({1, 1}), dgate({1, 1}), dup({1, 1});
  OpContext ctx = context();
  fill(ctx, out, 0);
  swiglu_forward(ctx, {gate, up, out});
  EXPECT_TRUE(std::isnan(values(out)[0]));
  for (const View& grad : {dgate.view(), dup.view()}) fill(ctx, grad, 0);
  swiglu_backward(ctx, {up, gate, up, dgate, dup});
  EXPECT_TRUE(std::isnan(values(dgate)[0]) && std::isnan(values(dup)[0]));
}

TEST(Swiglu, MayWriteOverItsInputs) {
  Tensor gate({3, 65}), up({3, 65}), dout({3, 65}), out({3, 65}), dgate({3, 65}), dup({3, 65});
  gate.randomize(1);
  up.randomize(2);
  dout.randomize(3);
  OpContext ctx = context();
  swiglu_forward(ctx, {gate, up, out});
  swiglu_backward(ctx, {dout, gate, up, dgate, dup});
  for (const Tensor* input : {&gate, &up}) {
    Tensor over({3, 65});
    copy(ctx, *input, over);
    const bool is_gate = input == &gate;
    swiglu_forward(ctx, {is_gate ? over : gate, is_gate ? up : over, over});
    expect_same_bits(over, out, is_gate ? "out over gate" : "out over up");
  }
  swiglu_backward(ctx, {dout, gate, up, gate, up});
  expect_same_bits(gate, dgate, "dgate over gate");
  expect_same_bits(up, dup, "dup over up");
}

TEST(Swiglu, GivesTheSameBitsForAnyNumberOfThreads) {
  constexpr std::int64_t kRows = 130, kSize = 257;
  Tensor gate({kRows, kSize}), up({kRows, kSize}), dout({kRows, kSize});
  gate.randomize(1, 5);
  up.randomize(2);
  dout.randomize(3);
  struct Result {
    Tensor out{{kRows, kSize}}, dgate{{kRows, kSize}}, dup{{kRows, kSize}};
  };
  const auto run = [&](int threads) {
    Result result;
    OpContext ctx = context(threads);
    swiglu_forward(ctx, {gate, up, result.out});
    swiglu_backward(ctx, {dout, gate, up, result.dgate, result.dup});
    return result;
  };
  const Result one = run(1);
  for (const int threads : {2, 3}) {
    const Result several = run(threads);
    expect_same_bits(several.out, one.out, "out");
    expect_same_bits(several.dgate, one.dgate, "dgate");
    expect_same_bits(several.dup, one.dup, "dup");
  }
}

TEST(Swiglu, RefusesWrongArgumentsAndWritesNothing) {
  Tensor a({2, 3}), wrong({3, 2}), out({2, 3}), cube({1, 2, 3});
  a.randomize(1);
  Buffer half(64);
  const View bf16 = half.view(DType::kBF16, {2, 3});
  OpContext ctx = context();
  expect_refused(
      [&] {
        swiglu_forward(ctx, {cube, cube, cube});
      },
      "swiglu_forward: gate is f32[1, 2, 3], must be f32[*, *]");
  expect_refused([&] { swiglu_forward(ctx, {a, wrong, out}); }, "swiglu_forward: up is f32[3, 2]");
  expect_refused(
      [&] {
        swiglu_forward(ctx, {a, bf16, out});
      },
      "swiglu_forward: up is bf16[2, 3], its dtype must be f32");
  expect_refused(
      [&] {
        swiglu_backward(ctx, {wrong, a, a, out, out});
      },
      "swiglu_backward: dout is f32[3, 2]");
  expect_refused([&] { swiglu_backward(ctx, {a, a, a, wrong, out}); }, "swiglu_backward: dgate is f32[3, 2]");
  expect_refused([&] { swiglu_backward(ctx, {a, a, a, out, bf16}); }, "swiglu_backward: dup is bf16[2, 3]");
  for (const double value : values(out)) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace terroir::test
