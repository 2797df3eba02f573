#include "kernels/linear_cross_entropy/linear_cross_entropy.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear_cross_entropy/linear_cross_entropy_cpu.cc"
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cmath>

#include "base/parallel_for.h"
#include "kernels/matmul/matmul.h"
#include "kernels/tensor/exp2-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

constexpr float kLog2E = 1.44269504F;

// `value` where `at` covers elements of the row, otherwise `filler`.
HWY_INLINE FloatVector fill_beyond(WholeVector, FloatVector value, float) { return value; }
HWY_INLINE FloatVector fill_beyond(PartialVector at, FloatVector value, float filler) {
  const FloatTag d;
  return hn::IfThenElse(hn::FirstN(d, at.count), value, hn::Set(d, filler));
}

float row_max(const float* row, std::int64_t n) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const FloatTag d;
  auto max = hn::Set(d, kLowest);
  for_each_vector(n, [&](auto at) HWY_ATTR { max = hn::Max(max, fill_beyond(at, load(at, row), kLowest)); });
  return hn::GetLane(hn::MaxOfLanes(d, max));
}

// Returns sum exp(row[i] - max); if kStore, row[i] becomes exp(row[i] - max).
template <bool kStore>
HWY_INLINE float exponentials(float* row, std::int64_t n, float max) {
  const FloatTag d;
  const auto base = hn::Set(d, max), log2_e = hn::Set(d, kLog2E);
  auto sum = hn::Zero(d);
  for_each_vector(n, [&](auto at) HWY_ATTR {
    const auto value = fill_beyond(at, exp2(hn::Mul(hn::Sub(load(at, row), base), log2_e)), 0);
    sum = hn::Add(sum, value);
    if constexpr (kStore) store(at, value, row);
  });
  return sum_of_lanes(sum);
}
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

// One chunk's scratch. T here is the number of tokens of the chunk.
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

// The arguments restricted to tokens [begin, end).
LinearCrossEntropyArgs tokens_of(LinearCrossEntropyArgs args, std::int64_t begin, std::int64_t end) {
  args.x = args.x.slice(0, begin, end);
  args.targets = args.targets.slice(0, begin, end);
  args.loss = args.loss.slice(0, begin, end);
  if (args.dx) args.dx = args.dx.slice(0, begin, end);
  return args;
}

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

// Equal chunks of at most 128 MiB of logits. At T 1024, H 768, V 50304 on two AVX-512 cores, chunks of 128,
// 256, 512 and 1024 tokens took 1.33, 1.09, 1.03 and 1 units of time: each chunk reads and writes all of dw.
std::int64_t linear_cross_entropy_chunk_tokens(std::int64_t num_tokens, std::int64_t vocab_size) {
  constexpr std::int64_t kMaxLogits = std::int64_t{1} << 25, kMinTokens = 64;
  const std::int64_t limit = std::max(kMaxLogits / std::max<std::int64_t>(vocab_size, 1), kMinTokens);
  const std::int64_t num_chunks = std::max<std::int64_t>((num_tokens + limit - 1) / limit, 1);
  return std::max<std::int64_t>((num_tokens + num_chunks - 1) / num_chunks, 1);
}

std::int64_t linear_cross_entropy_workspace_bytes(std::int64_t chunk_tokens, std::int64_t vocab_size,
                                                  std::int64_t hidden_size) {
  return workspace_floats(chunk_tokens, vocab_size, hidden_size) * static_cast<std::int64_t>(sizeof(float));
}

namespace cpu {

void linear_cross_entropy(OpContext& ctx, const LinearCrossEntropyArgs& all) {
  const std::int64_t num_tokens = all.x.size(0);
  for (std::int64_t begin = 0; begin < num_tokens; begin += all.chunk_tokens) {
    const std::int64_t end = std::min(begin + all.chunk_tokens, num_tokens);
    const LinearCrossEntropyArgs args = tokens_of(all, begin, end);
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
