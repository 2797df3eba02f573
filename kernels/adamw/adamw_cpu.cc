#include "kernels/adamw/adamw.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/adamw/adamw_cpu.cc"
#include <hwy/foreach_target.h>

#include <cmath>
#include <type_traits>

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
        root_scale(1 / std::sqrt(scalars.bias_correction2)),
        rounding_seed(scalars.rounding_seed) {}

  float grad_scale, one_minus_beta1, beta2, one_minus_beta2, eps, decay, step, root_scale;
  std::uint32_t rounding_seed;
};

}  // namespace
}  // namespace terroir
#endif

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

// 16 random bits for each lane: a hash (Wellons' lowbias32) of the seed and the elements' numbers from
// `first`.
HWY_INLINE hn::Vec<BitsTag> random_bits(std::uint32_t seed, std::uint32_t first) {
  const BitsTag d;
  auto x = hn::Add(hn::Mul(hn::Iota(d, first), hn::Set(d, 0x9E3779B9U)), hn::Set(d, seed));
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(d, 0x7FEB352DU));
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<15>(x)), hn::Set(d, 0x846CA68BU));
  return hn::ShiftRight<16>(x);
}

// One of the two bf16 numbers around `value`, the nearer the likelier. `random`: uniform below 2^16.
HWY_INLINE FloatVector rounded_stochastically(FloatVector value, hn::Vec<BitsTag> random) {
  const BitsTag d;
  const auto upper = hn::And(hn::Add(hn::BitCast(d, value), random), hn::Set(d, 0xFFFF0000U));
  return hn::IfThenElse(hn::IsFinite(value), hn::BitCast(FloatTag(), upper), value);
}

// Elements [begin, end). kCopy: also writes params_bf16.
template <class Param, class Grad, bool kCopy>
HWY_INLINE void adamw_range(const AdamWArgs& args, const AdamWFactors& factors, std::int64_t begin,
                            std::int64_t end) {
  const FloatTag d;
  Param* params = args.params.data<Param>() + begin;
  const Grad* grads = args.grads.data<Grad>() + begin;
  float* exp_avg = args.exp_avg.data<float>() + begin;
  float* exp_avg_sq = args.exp_avg_sq.data<float>() + begin;
  BFloat16* params_bf16 = kCopy ? args.params_bf16.data<BFloat16>() + begin : nullptr;
  const auto first = static_cast<std::uint32_t>(args.first_element + begin);
  for_each_vector(end - begin, [=](auto at) HWY_ATTR {
    const auto g = hn::Mul(load(at, grads), hn::Set(d, factors.grad_scale));
    const auto old_m = load(at, exp_avg);
    const auto m = hn::MulAdd(hn::Sub(g, old_m), hn::Set(d, factors.one_minus_beta1), old_m);
    const auto v = hn::MulAdd(load(at, exp_avg_sq), hn::Set(d, factors.beta2),
                              hn::Mul(hn::Mul(g, g), hn::Set(d, factors.one_minus_beta2)));
    const auto root = hn::MulAdd(hn::Sqrt(v), hn::Set(d, factors.root_scale), hn::Set(d, factors.eps));
    const auto update = hn::Mul(hn::Set(d, factors.step), hn::Div(m, root));
    auto p = hn::MulSub(load(at, params), hn::Set(d, factors.decay), update);
    store(at, m, exp_avg);
    store(at, v, exp_avg_sq);
    if constexpr (std::is_same_v<Param, BFloat16>)
      p = rounded_stochastically(
          p, random_bits(factors.rounding_seed, first + static_cast<std::uint32_t>(at.index)));
    store(at, p, params);
    if constexpr (kCopy) store(at, p, params_bf16);
  });
}

template <class Grad>
HWY_INLINE void adamw_grads(const AdamWArgs& args, const AdamWFactors& factors, std::int64_t begin,
                            std::int64_t end) {
  if (args.params.dtype() == DType::kBF16)
    return adamw_range<BFloat16, Grad, false>(args, factors, begin, end);
  if (args.params_bf16) return adamw_range<float, Grad, true>(args, factors, begin, end);
  adamw_range<float, Grad, false>(args, factors, begin, end);
}

void update_range(const AdamWArgs& args, const AdamWFactors& factors, std::int64_t begin, std::int64_t end) {
  if (args.grads.dtype() == DType::kBF16) return adamw_grads<BFloat16>(args, factors, begin, end);
  adamw_grads<float>(args, factors, begin, end);
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {

HWY_EXPORT(update_range);

constexpr std::int64_t kGrain = 1 << 13;

void update_tensor(const OpContext& ctx, const AdamWArgs& args) {
  if (args.scalars->skip != 0) return;
  const AdamWFactors factors(args.options, *args.scalars);
  const auto update = HWY_DYNAMIC_DISPATCH(update_range);
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
