// With bf16 operands: the same roundings as on CUDA, in the plainest order. Training on CPUs is f32.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear_cross_entropy/linear_cross_entropy_bf16_cpu.cc"
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/parallel_for.h"
#include "kernels/linear_cross_entropy/chunk.h"
#include "kernels/linear_cross_entropy/softmax-inl.h"
#include "kernels/matmul/matmul.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

float bf16_row_max(const BFloat16* row, std::int64_t n) { return largest_of(row, n); }
float bf16_sum_exponentials(BFloat16* row, std::int64_t n, float max) {
  return exponentials<false>(row, n, max);
}

// row[i] becomes scale exp(row[i] - max), less `grad_scale` at `target` unless that is -1.
void bf16_gradients(BFloat16* row, std::int64_t n, float max, float scale, float grad_scale,
                    std::int64_t target) {
  const FloatTag d;
  const auto gradient = [=](FloatVector logit) HWY_ATTR {
    const auto power = exp2(hn::Mul(hn::Sub(logit, hn::Set(d, max)), hn::Set(d, kLog2E)));
    return hn::Mul(power, hn::Set(d, scale));
  };
  const PartialVector at_target = {std::max<std::int64_t>(target, 0), 1};
  const auto of_target = hn::Sub(gradient(load(at_target, row)), hn::Set(d, grad_scale));
  for_each_vector(n, [=](auto at) HWY_ATTR { store(at, gradient(load(at, row)), row); });
  if (target >= 0) store(at_target, of_target, row);
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {

HWY_EXPORT(bf16_row_max);
HWY_EXPORT(bf16_sum_exponentials);
HWY_EXPORT(bf16_gradients);

constexpr std::int64_t kRowGrain = 1;

template <class ViewType>
auto row_of(const ViewType& x, std::int64_t index) {
  return x.template data<BFloat16>() + index * x.stride(0);
}

std::int32_t target_of(const LinearCrossEntropyArgs& args, std::int64_t token) {
  return args.targets.data<std::int32_t>()[token];
}

// The target's row of w, or -1 if it is another rank's.
std::int64_t local_target(const LinearCrossEntropyArgs& args, std::int64_t token) {
  const std::int64_t local = target_of(args, token) - args.vocab_begin;
  return local >= 0 && local < args.w.size(0) ? local : -1;
}

float to_float(BFloat16 value) {
  const std::uint32_t bits = std::uint32_t{value.bits} << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

void compute_statistics(OpContext& ctx, const LinearCrossEntropyArgs& args, const loss::Chunk& chunk) {
  const auto row_max = HWY_DYNAMIC_DISPATCH(bf16_row_max);
  const auto sum_exponentials = HWY_DYNAMIC_DISPATCH(bf16_sum_exponentials);
  const std::int64_t num_tokens = chunk.logits.size(0), vocab_size = chunk.logits.size(1);
  float* statistics = chunk.statistics.data<float>();
  parallel_for(ctx.num_threads, num_tokens, kRowGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      float max = 0, sum = 1, target_logit = 0;
      if (target_of(args, token) != kIgnoredTarget) {
        BFloat16* logits = row_of(chunk.logits, token);
        const std::int64_t target = local_target(args, token);
        target_logit = target < 0 ? -INFINITY : to_float(logits[target]);
        max = row_max(logits, vocab_size);
        sum = sum_exponentials(logits, vocab_size, max);
      }
      statistics[token] = max;
      statistics[num_tokens + token] = sum;
      statistics[2 * num_tokens + token] = target_logit;
    }
  });
}

void write_losses(const LinearCrossEntropyArgs& args, const loss::Chunk& chunk) {
  const std::int64_t num_tokens = chunk.logits.size(0);
  const float* statistics = chunk.statistics.data<float>();
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    const float above_target = statistics[token] - statistics[2 * num_tokens + token];
    args.loss.data<float>()[token] = target_of(args, token) == kIgnoredTarget
                                         ? 0
                                         : std::log(statistics[num_tokens + token]) + above_target;
  }
}

// Gradients over the logits, and counted_x.
void prepare_products(OpContext& ctx, const LinearCrossEntropyArgs& args, const loss::Chunk& chunk) {
  const auto gradients = HWY_DYNAMIC_DISPATCH(bf16_gradients);
  const std::int64_t num_tokens = chunk.logits.size(0), vocab_size = chunk.logits.size(1);
  const std::int64_t hidden_size = args.x.size(1);
  const float* statistics = chunk.statistics.data<float>();
  parallel_for(ctx.num_threads, num_tokens, kRowGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      BFloat16 *logits = row_of(chunk.logits, token), *counted_x = row_of(chunk.counted_x, token);
      if (target_of(args, token) == kIgnoredTarget) {
        std::fill_n(logits, vocab_size, BFloat16{0});
        std::fill_n(counted_x, hidden_size, BFloat16{0});
        continue;
      }
      std::copy_n(row_of(args.x, token), hidden_size, counted_x);
      gradients(logits, vocab_size, statistics[token], args.grad_scale / statistics[num_tokens + token],
                args.grad_scale, local_target(args, token));
    }
  });
}

}  // namespace

void cpu::linear_cross_entropy_bf16(OpContext& ctx, const LinearCrossEntropyArgs& all) {
  loss::for_each_chunk(all, [&](const LinearCrossEntropyArgs& args, const loss::Chunk& chunk) {
    matmul(ctx, {args.x, args.w, chunk.logits, {.transpose_b = true}});
    compute_statistics(ctx, args, chunk);
    if (args.exchange.merge != nullptr) args.exchange.merge(args.exchange.user, chunk.statistics);
    write_losses(args, chunk);
    if (!args.dx) return;
    prepare_products(ctx, args, chunk);
    matmul(ctx, {chunk.logits, args.w, args.dx, {}});
    matmul(ctx, {chunk.logits, chunk.counted_x, args.dw, {.transpose_a = true, .accumulate = true}});
  });
}

}  // namespace terroir
#endif
