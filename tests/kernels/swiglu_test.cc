#include "kernels/swiglu/swiglu.h"

#include <cfloat>
#include <tuple>

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

// The rounding of one result on top of the f32 arithmetic's error.
double tolerance(DType dtype) { return dtype == DType::kBF16 ? 0x1p-8 + 1e-6 : 1e-6; }

class SwigluOf : public testing::TestWithParam<std::tuple<std::int64_t, DType>> {};
INSTANTIATE_TEST_SUITE_P(Sizes, SwigluOf,
                         testing::Combine(testing::Values(1, 3, 63, 64, 65, 257, 1088),
                                          testing::Values(DType::kF32, DType::kBF16)));

TEST_P(SwigluOf, ForwardOnHalvesOfAFusedProjectionEqualsTheReference) {
  const auto [size, dtype] = GetParam();
  for (const std::int64_t pad : {5, 8}) {
    Tensor fused({3, 2 * size}, 0, dtype), out({3, size}, pad, dtype);
    fused.randomize(1, 6);
    const View gate = fused.view().slice(1, 0, size), up = fused.view().slice(1, size, 2 * size);
    OpContext ctx = context();
    swiglu_forward(ctx, {gate, up, out});
    expect_close(out, reference(values(gate), values(up)), tolerance(dtype), "out");
    EXPECT_TRUE(out.gaps_untouched());
  }
}

TEST_P(SwigluOf, BackwardEqualsCentralDifferences) {
  const auto [size, dtype] = GetParam();
  for (const std::int64_t pad : {1, 8}) {
    Tensor gate({2, size}, pad, dtype), up({2, size}, 2 * pad, dtype), dout({2, size}, 3 * pad, dtype);
    Tensor dgate({2, size}, 4 * pad, dtype), dup({2, size}, 5 * pad, dtype);
    const Values g = values(gate.randomize(1, 4)), u = values(up.randomize(2)), d = values(dout.randomize(3));
    OpContext ctx = context();
    swiglu_backward(ctx, {dout, gate, up, dgate, dup});
    Values dgate_wanted, dup_wanted;  // each output depends on its own inputs only
    for (std::size_t i = 0; i < g.size(); ++i) {
      const auto loss_of_gate = [&](const Values& moved) { return reference(moved, {u[i]})[0] * d[i]; };
      const auto loss_of_up = [&](const Values& moved) { return reference({g[i]}, moved)[0] * d[i]; };
      dgate_wanted.push_back(numeric_gradient({g[i]}, loss_of_gate)[0]);
      dup_wanted.push_back(numeric_gradient({u[i]}, loss_of_up)[0]);
    }
    expect_close(dgate, dgate_wanted, tolerance(dtype), "dgate");
    expect_close(dup, dup_wanted, tolerance(dtype), "dup");
    EXPECT_TRUE(dgate.gaps_untouched() && dup.gaps_untouched());
  }
}

TEST(Swiglu, KeepsFullRelativeAccuracyFarFromZero) {
  const std::vector<float> gates = {-80, -20, -1e-30F, 0, 1e-30F, 20, 80, 200, FLT_MAX, -200, -FLT_MAX};
  const auto count = static_cast<std::int64_t>(gates.size());
  Tensor gate({1, count}), one({1, count}), out({1, count}), dgate({1, count}), dup({1, count});
  gate.assign(gates);
  OpContext ctx = context();
  fill(ctx, one, 1);
  swiglu_forward(ctx, {gate, one, out});
  swiglu_backward(ctx, {one, gate, one, dgate, dup});
  for (std::size_t i = 0; i < gates.size(); ++i) {
    const double g = gates[i], s = 1 / (1 + std::exp(-g));
    const double silu = g * s, slope = s + silu / (1 + std::exp(g));
    EXPECT_NEAR(values(out)[i], silu, 5e-7 * std::fabs(silu) + FLT_MIN) << g;
    EXPECT_NEAR(values(dgate)[i], slope, 5e-7 * std::fabs(slope) + FLT_MIN) << g;
  }
}

TEST(Swiglu, PassesNanOn) {
  Tensor gate({1, 1}), up({1, 1}), out({1, 1}), dgate({1, 1}), dup({1, 1});
  gate.assign({std::numeric_limits<float>::quiet_NaN()});
  OpContext ctx = context();
  fill(ctx, up, 1);
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
  TERROIR_CPU_ONLY();
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
  const Tensor half({2, 3}, 0, DType::kBF16);
  const View bf16 = half;
  const IntTensor ints({2, 3}, {1, 2, 3, 4, 5, 6});
  OpContext ctx = context();
  expect_refused(
      [&] {
        swiglu_forward(ctx, {cube, cube, cube});
      },
      "swiglu_forward: gate is f32[1, 2, 3], must be f32[*, *]");
  expect_refused([&] { swiglu_forward(ctx, {a, wrong, out}); }, "swiglu_forward: up is f32[3, 2]");
  expect_refused(
      [&] {
        swiglu_forward(ctx, {ints, ints, out});
      },
      "swiglu_forward: gate is i32[2, 3], its dtype must be f32 or bf16");
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
