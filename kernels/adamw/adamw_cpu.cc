#include "kernels/adamw/adamw.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/adamw/adamw_cpu.cc"
#include <hwy/foreach_target.h>

#include <cmath>

#include "base/parallel_for.h"
#include "kernels/tensor/simd-inl.h"

#ifndef TERROIR_KERNELS_ADAMW_FACTORS
#define TERROIR_KERNELS_ADAMW_FACTORS
namespace terroir {
namespace {

// The step's constants, rounded to f32 once: 1 - beta2 in f32 arithmetic would be off by 5e-5 for beta2 =
// 0.999.
struct AdamWFactors {
  AdamWFactors(const AdamWOptions& options, const StepScalars& scalars)
      : grad_scale(scalars.grad_scale),
        one_minus_beta1(static_cast<float>(1 - options.beta1)),
        beta2(static_cast<float>(options.beta2)),
        one_minus_beta2(static_cast<float>(1 - options.beta2)),
        eps(static_cast<float>(options.eps)),
        decay(static_cast<float>(1 - scalars.learning_rate * options.weight_decay)),
        step(scalars.learning_rate / scalars.bias_correction1),
        root_scale(1 / std::sqrt(scalars.bias_correction2)) {}

  float grad_scale, one_minus_beta1, beta2, one_minus_beta2, eps, decay, step, root_scale;
};

}  // namespace
}  // namespace terroir
#endif

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

// Elements [begin, end). kBf16: also writes params_bf16.
template <bool kBf16>
HWY_INLINE void adamw_range(const AdamWArgs& args, const AdamWFactors& factors, std::int64_t begin,
                            std::int64_t end) {
  const FloatTag d;
  float* params = args.params.data<float>() + begin;
  const float* grads = args.grads.data<float>() + begin;
  float* exp_avg = args.exp_avg.data<float>() + begin;
  float* exp_avg_sq = args.exp_avg_sq.data<float>() + begin;
  BFloat16* params_bf16 = kBf16 ? args.params_bf16.data<BFloat16>() + begin : nullptr;
  for_each_vector(end - begin, [=](auto at) HWY_ATTR {
    const auto g = hn::Mul(load(at, grads), hn::Set(d, factors.grad_scale));
    const auto old_m = load(at, exp_avg);
    const auto m = hn::MulAdd(hn::Sub(g, old_m), hn::Set(d, factors.one_minus_beta1), old_m);
    const auto v = hn::MulAdd(load(at, exp_avg_sq), hn::Set(d, factors.beta2),
                              hn::Mul(hn::Mul(g, g), hn::Set(d, factors.one_minus_beta2)));
    const auto root = hn::MulAdd(hn::Sqrt(v), hn::Set(d, factors.root_scale), hn::Set(d, factors.eps));
    const auto update = hn::Mul(hn::Set(d, factors.step), hn::Div(m, root));
    const auto p = hn::MulSub(load(at, params), hn::Set(d, factors.decay), update);
    store(at, m, exp_avg);
    store(at, v, exp_avg_sq);
    store(at, p, params);
    if constexpr (kBf16) store(at, p, params_bf16);
  });
}

void adamw_f32(const AdamWArgs& args, const AdamWFactors& factors, std::int64_t begin, std::int64_t end) {
  adamw_range<false>(args, factors, begin, end);
}
void adamw_f32_and_bf16(const AdamWArgs& args, const AdamWFactors& factors, std::int64_t begin,
                        std::int64_t end) {
  adamw_range<true>(args, factors, begin, end);
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {

HWY_EXPORT(adamw_f32);
HWY_EXPORT(adamw_f32_and_bf16);

constexpr std::int64_t kGrain = 1 << 13;

void update_tensor(const OpContext& ctx, const AdamWArgs& args) {
  if (args.scalars->skip != 0) return;
  const AdamWFactors factors(args.options, *args.scalars);
  const auto update =
      args.params_bf16 ? HWY_DYNAMIC_DISPATCH(adamw_f32_and_bf16) : HWY_DYNAMIC_DISPATCH(adamw_f32);
  parallel_for(ctx.num_threads, args.params.numel(), kGrain,
               [&](std::int64_t begin, std::int64_t end) { update(args, factors, begin, end); });
}

}  // namespace

namespace cpu {

void adamw(OpContext& ctx, const std::span<const AdamWArgs>& list) {
  for (const AdamWArgs& args : list) update_tensor(ctx, args);
}

}  // namespace cpu
}  // namespace terroir
#endif
