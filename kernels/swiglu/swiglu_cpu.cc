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

template <class T>
struct SwigluBackwardRun {
  const T *dout, *gate, *up;
  T *dgate, *dup;
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

template <class T>
HWY_INLINE void forward_run(const T* gate, const T* up, std::int64_t n, T* out) {
  for_each_vector(n, [=](auto at) HWY_ATTR {
    const auto g = load(at, gate);
    store(at, hn::Mul(hn::Mul(g, sigmoid(g).of_x), load(at, up)), out);
  });
}

template <class T>
HWY_INLINE void backward_run(const SwigluBackwardRun<T>& run, std::int64_t n) {
  for_each_vector(n, [run](auto at) HWY_ATTR {
    const auto dout = load(at, run.dout), gate = load(at, run.gate), up = load(at, run.up);
    const Sigmoid s = sigmoid(gate);
    const auto silu = hn::Mul(gate, s.of_x);
    const auto slope = hn::MulAdd(silu, s.of_minus_x, s.of_x);
    store(at, hn::Mul(hn::Mul(dout, up), slope), run.dgate);
    store(at, hn::Mul(dout, silu), run.dup);
  });
}

void forward_run_f32(const float* gate, const float* up, std::int64_t n, float* out) {
  forward_run(gate, up, n, out);
}
void forward_run_bf16(const BFloat16* gate, const BFloat16* up, std::int64_t n, BFloat16* out) {
  forward_run(gate, up, n, out);
}
void backward_run_f32(const SwigluBackwardRun<float>& run, std::int64_t n) { backward_run(run, n); }
void backward_run_bf16(const SwigluBackwardRun<BFloat16>& run, std::int64_t n) { backward_run(run, n); }

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {

HWY_EXPORT(forward_run_f32);
HWY_EXPORT(forward_run_bf16);
HWY_EXPORT(backward_run_f32);
HWY_EXPORT(backward_run_bf16);

constexpr std::int64_t kGrain = 1 << 13;

template <class T>
void forward_runs(OpContext& ctx, const SwigluForwardArgs& args,
                  void (*forward_run)(const T*, const T*, std::int64_t, T*)) {
  const Rows<3> rows({args.gate, args.up, args.out});
  parallel_for_each_run(ctx.num_threads, rows, kGrain, [&](const auto& at, std::int64_t count) {
    forward_run(args.gate.data<T>() + at[0], args.up.data<T>() + at[1], count, args.out.data<T>() + at[2]);
  });
}

template <class T>
void backward_runs(OpContext& ctx, const SwigluBackwardArgs& args,
                   void (*backward_run)(const SwigluBackwardRun<T>&, std::int64_t)) {
  const Rows<5> rows({args.dout, args.gate, args.up, args.dgate, args.dup});
  parallel_for_each_run(ctx.num_threads, rows, kGrain, [&](const auto& at, std::int64_t count) {
    backward_run({args.dout.data<T>() + at[0], args.gate.data<T>() + at[1], args.up.data<T>() + at[2],
                  args.dgate.data<T>() + at[3], args.dup.data<T>() + at[4]},
                 count);
  });
}

}  // namespace

namespace cpu {

void swiglu_forward(OpContext& ctx, const SwigluForwardArgs& args) {
  if (args.gate.dtype() == DType::kBF16)
    return forward_runs<BFloat16>(ctx, args, HWY_DYNAMIC_DISPATCH(forward_run_bf16));
  forward_runs<float>(ctx, args, HWY_DYNAMIC_DISPATCH(forward_run_f32));
}

void swiglu_backward(OpContext& ctx, const SwigluBackwardArgs& args) {
  if (args.gate.dtype() == DType::kBF16)
    return backward_runs<BFloat16>(ctx, args, HWY_DYNAMIC_DISPATCH(backward_run_bf16));
  backward_runs<float>(ctx, args, HWY_DYNAMIC_DISPATCH(backward_run_f32));
}

}  // namespace cpu
}  // namespace terroir
#endif
