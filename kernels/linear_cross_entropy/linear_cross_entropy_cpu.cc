#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear_cross_entropy/linear_cross_entropy_cpu.cc"
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cmath>

#include "base/parallel_for.h"
#include "kernels/linear_cross_entropy/chunk.h"
#include "kernels/linear_cross_entropy/softmax-inl.h"
#include "kernels/matmul/matmul.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

float row_max(const float* row, std::int64_t n) { return largest_of(row, n); }
float sum_exponentials(float* row, std::int64_t n, float max) { return exponentials<false>(row, n, max); }
float store_exponentials(float* row, std::int64_t n, float max) { return exponentials<true>(row, n, max); }

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {

HWY_EXPORT(row_max);
HWY_EXPORT(sum_exponentials);
HWY_EXPORT(store_exponentials);

constexpr std::int64_t kRowGrain = 1;  // a row is a whole vocabulary or hidden vector: worth a thread

// One chunk's scratch with f32 operands: the exponentials are not normalized, so that they need not be
// written twice; rows are weighted in the products instead. T here is the number of tokens of the chunk.
struct Chunk {
  View logits;      // [T, V]: logits, then exp(logit - largest of this rank)
  View scaled_x;    // [T, H]: row t is weight[t] x[t]
  View statistics;  // [3, T], see VocabExchange
  View largest;     // [T]: of this rank's logits
  View weight;      // [T]: makes weight[t] * logits[t] the gradient of the loss, but for the target's -1
};

std::int64_t workspace_floats(std::int64_t tokens, std::int64_t vocab_size, std::int64_t hidden_size) {
  return tokens * (vocab_size + hidden_size + 3 + 1 + 1);
}

Chunk make_chunk(const View& workspace, std::int64_t tokens, std::int64_t vocab_size,
                 std::int64_t hidden_size) {
  auto* next = static_cast<float*>(workspace.raw());
  const auto take = [&](std::initializer_list<std::int64_t> shape) {
    const View view(next, DType::kF32, shape, workspace.device());
    next += view.numel();
    return view;
  };
  return {take({tokens, vocab_size}), take({tokens, hidden_size}), take({3, tokens}), take({tokens}),
          take({tokens})};
}

const float* row(const ConstView& x, std::int64_t index) { return x.data<float>() + index * x.stride(0); }
float* row(const View& x, std::int64_t index) { return x.data<float>() + index * x.stride(0); }

// The target's row of w, or -1 if it is ignored or another rank's.
std::int64_t local_target(const LinearCrossEntropyArgs& args, std::int64_t token) {
  const std::int64_t target = args.targets.data<std::int32_t>()[token];
  const std::int64_t local = target - args.vocab_begin;
  return target != kIgnoredTarget && local >= 0 && local < args.w.size(0) ? local : -1;
}

bool is_ignored(const LinearCrossEntropyArgs& args, std::int64_t token) {
  return args.targets.data<std::int32_t>()[token] == kIgnoredTarget;
}

// Statistics of this rank's logits; with gradients, the logits become their exponentials (ignored rows become
// zero).
void softmax_rows(OpContext& ctx, const LinearCrossEntropyArgs& args, const Chunk& chunk) {
  const auto row_max = HWY_DYNAMIC_DISPATCH(row_max);
  const auto exponentials =
      args.dx ? HWY_DYNAMIC_DISPATCH(store_exponentials) : HWY_DYNAMIC_DISPATCH(sum_exponentials);
  const std::int64_t num_tokens = chunk.logits.size(0), vocab_size = chunk.logits.size(1);
  float* statistics = chunk.statistics.data<float>();
  parallel_for(ctx.num_threads, num_tokens, kRowGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      float* logits = row(chunk.logits, token);
      float max = 0, sum = 1, target_logit = 0;
      if (is_ignored(args, token)) {
        std::fill_n(logits, vocab_size, 0.0F);
      } else {
        const std::int64_t target = local_target(args, token);
        target_logit = target < 0 ? -INFINITY : logits[target];
        max = row_max(logits, vocab_size);
        sum = exponentials(logits, vocab_size, max);
      }
      chunk.largest.data<float>()[token] = statistics[token] = max;
      statistics[num_tokens + token] = sum;
      statistics[2 * num_tokens + token] = target_logit;
    }
  });
}

// Losses, and the weights that turn this rank's exponentials into gradients, from the merged statistics.
void finish_rows(const LinearCrossEntropyArgs& args, const Chunk& chunk) {
  const std::int64_t num_tokens = chunk.logits.size(0);
  const float* statistics = chunk.statistics.data<float>();
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    const float max = statistics[token], sum = statistics[num_tokens + token];
    const float target_logit = statistics[2 * num_tokens + token];
    const bool ignored = is_ignored(args, token);
    args.loss.data<float>()[token] = ignored ? 0 : std::log(sum) + max - target_logit;
    chunk.weight.data<float>()[token] =
        ignored ? 0 : args.grad_scale * std::exp(chunk.largest.data<float>()[token] - max) / sum;
  }
}

// dx = weight (exponentials w) - grad_scale w[target]. The rows are weighted after the product, so that the
// [T, V] matrix is not written once more.
void compute_dx(OpContext& ctx, const LinearCrossEntropyArgs& args, const Chunk& chunk) {
  cpu::matmul(ctx, {chunk.logits, args.w, args.dx, {}});
  parallel_for(ctx.num_threads, args.x.size(0), kRowGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      const float weight = chunk.weight.data<float>()[token];
      const std::int64_t target = local_target(args, token);
      float* dx = row(args.dx, token);
      for (std::int64_t i = 0; i < args.dx.size(1); ++i) dx[i] *= weight;
      if (target < 0) continue;
      const float* w = row(args.w, target);
      for (std::int64_t i = 0; i < args.dx.size(1); ++i) dx[i] -= args.grad_scale * w[i];
    }
  });
}

// dw += exponentials^T (weight x), then dw[target] -= grad_scale x. Tokens may share a target: threads split
// columns.
void add_dw(OpContext& ctx, const LinearCrossEntropyArgs& args, const Chunk& chunk) {
  const std::int64_t num_tokens = args.x.size(0);
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    const float weight = chunk.weight.data<float>()[token];
    const float* x = row(args.x, token);
    float* scaled = row(chunk.scaled_x, token);
    for (std::int64_t i = 0; i < args.x.size(1); ++i) scaled[i] = is_ignored(args, token) ? 0 : weight * x[i];
  }
  cpu::matmul(ctx, {chunk.logits, chunk.scaled_x, args.dw, {.transpose_a = true, .accumulate = true}});
  constexpr std::int64_t kColumnGrain = 64;
  parallel_for(ctx.num_threads, args.x.size(1), kColumnGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = 0; token < num_tokens; ++token) {
      const std::int64_t target = local_target(args, token);
      if (target < 0) continue;
      const float* x = row(args.x, token);
      float* dw = row(args.dw, target);
      for (std::int64_t i = begin; i < end; ++i) dw[i] -= args.grad_scale * x[i];
    }
  });
}

}  // namespace

std::int64_t cpu::linear_cross_entropy_f32_workspace_bytes(std::int64_t chunk_tokens, std::int64_t vocab_size,
                                                           std::int64_t hidden_size) {
  return workspace_floats(chunk_tokens, vocab_size, hidden_size) * static_cast<std::int64_t>(sizeof(float));
}

namespace cpu {

void linear_cross_entropy(OpContext& ctx, const LinearCrossEntropyArgs& all) {
  if (all.x.dtype() == DType::kBF16) return linear_cross_entropy_bf16(ctx, all);
  const std::int64_t num_tokens = all.x.size(0);
  for (std::int64_t begin = 0; begin < num_tokens; begin += all.chunk_tokens) {
    const std::int64_t end = std::min(begin + all.chunk_tokens, num_tokens);
    const LinearCrossEntropyArgs args = loss::tokens_of(all, begin, end);
    const Chunk chunk = make_chunk(args.workspace, end - begin, args.w.size(0), args.x.size(1));
    matmul(ctx, {args.x, args.w, chunk.logits, {.transpose_b = true}});
    softmax_rows(ctx, args, chunk);
    if (args.exchange.merge != nullptr) args.exchange.merge(args.exchange.user, chunk.statistics);
    finish_rows(args, chunk);
    if (!args.dx) continue;
    compute_dx(ctx, args, chunk);
    add_dw(ctx, args, chunk);
  }
}

}  // namespace cpu
}  // namespace terroir
#endif
