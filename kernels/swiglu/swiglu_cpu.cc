#include "kernels/swiglu/swiglu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/swiglu/swiglu_cpu.cc"
#include <hwy/foreach_target.h>

#include <hwy/contrib/math/math-inl.h>

#include "kernels/tensor/runs.h"
#include "kernels/tensor/simd-inl.h"

#ifndef TERROIR_KERNELS_SWIGLU_RUNS
#define TERROIR_KERNELS_SWIGLU_RUNS
namespace terroir {
namespace {

struct SwigluBackwardRun {
  const float *dout, *gate, *up;
  float *dgate, *dup;
};

}  // namespace
}  // namespace terroir
#endif

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

// sigmoid(x) and sigmoid(-x) = 1 - sigmoid(x), both to full relative accuracy. With e = exp(-|x|) they are
// 1 / (1 + e) and e / (1 + e).
struct Sigmoid {
  FloatVector of_x, of_minus_x;
};

HWY_INLINE Sigmoid sigmoid(FloatVector x) {
  const FloatTag d;
  const auto e = hn::Exp(d, hn::Neg(hn::Abs(x)));
  const auto larger = hn::Div(hn::Set(d, 1.0f), hn::Add(hn::Set(d, 1.0f), e));
  const auto smaller = hn::Mul(e, larger);
  const auto positive = hn::Ge(x, hn::Zero(d));
  return {hn::IfThenElse(positive, larger, smaller), hn::IfThenElse(positive, smaller, larger)};
}

void swiglu_forward_run(const float* gate, const float* up, std::int64_t n, float* out) {
  for_each_vector(n, [=](auto at) HWY_ATTR {
    const auto g = load(at, gate);
    store(at, hn::Mul(hn::Mul(g, sigmoid(g).of_x), load(at, up)), out);
  });
}

void swiglu_backward_run(const SwigluBackwardRun& run, std::int64_t n) {
  for_each_vector(n, [run](auto at) HWY_ATTR {
    const auto dout = load(at, run.dout), gate = load(at, run.gate), up = load(at, run.up);
    const Sigmoid s = sigmoid(gate);
    const auto silu = hn::Mul(gate, s.of_x);
    const auto slope = hn::MulAdd(silu, s.of_minus_x, s.of_x);
    store(at, hn::Mul(hn::Mul(dout, up), slope), run.dgate);
    store(at, hn::Mul(dout, silu), run.dup);
  });
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {

HWY_EXPORT(swiglu_forward_run);
HWY_EXPORT(swiglu_backward_run);

constexpr std::int64_t kGrain = 1 << 13;

}  // namespace

namespace cpu {

void swiglu_forward(OpContext& ctx, const SwigluForwardArgs& args) {
  const auto forward = HWY_DYNAMIC_DISPATCH(swiglu_forward_run);
  const Rows<3> rows({args.gate, args.up, args.out});
  parallel_for_each_run(ctx.num_threads, rows, kGrain, [&](const auto& at, std::int64_t count) {
    forward(args.gate.data<float>() + at[0], args.up.data<float>() + at[1], count,
            args.out.data<float>() + at[2]);
  });
}

void swiglu_backward(OpContext& ctx, const SwigluBackwardArgs& args) {
  const auto backward = HWY_DYNAMIC_DISPATCH(swiglu_backward_run);
  const Rows<5> rows({args.dout, args.gate, args.up, args.dgate, args.dup});
  parallel_for_each_run(ctx.num_threads, rows, kGrain, [&](const auto& at, std::int64_t count) {
    backward({args.dout.data<float>() + at[0], args.gate.data<float>() + at[1], args.up.data<float>() + at[2],
              args.dgate.data<float>() + at[3], args.dup.data<float>() + at[4]},
             count);
  });
}

}  // namespace cpu
}  // namespace terroir
#endif
