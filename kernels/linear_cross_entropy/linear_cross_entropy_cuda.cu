// Three products per chunk, and between them two passes over the logits, a block per token: one that reads
// them for the softmax's statistics, one that puts the gradients in their place.
#include <cmath>

#include "kernels/cuda/device.cuh"
#include "kernels/linear_cross_entropy/chunk.h"
#include "kernels/matmul/matmul.h"

namespace terroir::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kInFlight = 4;  // vectors a thread loads before it uses the first
constexpr int kBlocks = 5;    // of an SM: 80 KB of loads on their way
constexpr float kLog2E = 1.44269504F;

// One chunk as the kernels see it. n tokens.
template <class T>
struct Tokens {
  T* logits;  // [n, V], rows aligned
  std::int64_t logits_stride;
  int vocab_size;
  std::int64_t vocab_begin;
  const std::int32_t* targets;  // [n]
  float* statistics;            // [3, n]
  float* loss;                  // [n]
  std::int64_t num_tokens;

  // The target's column, or -1 if it is another rank's.
  __device__ __forceinline__ int column(std::int32_t target) const {
    const std::int64_t local = target - vocab_begin;
    return local >= 0 && local < vocab_size ? static_cast<int>(local) : -1;
  }
};

// exp(x - max), where max may be all there is: a row that begins with -inf.
__device__ __forceinline__ float exp_above(float x, float max) { return exp2f((x - max) * kLog2E); }

// Sum of exp(x - max) over what was added so far.
struct RunningSum {
  float max = -INFINITY, sum = 0;

  template <int kCount>
  __device__ __forceinline__ void add(const float (&x)[kCount]) {
    float new_max = max;
#pragma unroll
    for (int e = 0; e < kCount; ++e) new_max = fmaxf(new_max, x[e]);
    const float base = new_max == -INFINITY ? 0 : new_max;
    float added = 0;
#pragma unroll
    for (int e = 0; e < kCount; ++e) added += exp_above(x[e], base);
    sum = fmaf(sum, exp_above(max, base), added);
    max = new_max;
  }
};

// Over the block; every thread gets it. `scratch`: kWarpSize floats, free again afterwards.
__device__ __forceinline__ RunningSum block_total(RunningSum mine, float* scratch) {
  const int lane = threadIdx.x % kWarpSize;
  RunningSum total;
  const float warp = warp_max(mine.max);
  if (lane == 0) scratch[threadIdx.x / kWarpSize] = warp;
  __syncthreads();
  total.max = warp_max(lane < kThreads / kWarpSize ? scratch[lane] : -INFINITY);
  const float base = total.max == -INFINITY ? 0 : total.max;
  total.sum = block_sum(mine.sum * exp_above(mine.max, base), scratch);
  return total;
}

// Calls vector(index of the first column, elements) for the whole vectors of a row, kInFlight loads ahead,
// then element(column) for the columns that are left; each thread takes its part.
template <class T, class OnVector, class OnElement>
__device__ __forceinline__ void for_row(T* row, int n, OnVector vector, OnElement element) {
  constexpr int kCount = kVectorElements<T>;
  const int whole = n / kCount;
  for (int first = threadIdx.x; first < whole; first += kThreads * kInFlight) {
    Vector<T, kCount> loaded[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int at = first + i * kThreads;
      if (at < whole) loaded[i] = load_vector(row + std::int64_t{at} * kCount);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int at = first + i * kThreads;
      if (at < whole) vector(at * kCount, loaded[i]);
    }
  }
  const int column = whole * kCount + static_cast<int>(threadIdx.x);
  if (column < n) element(column);
}

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocks) statistics_kernel(const Tokens<T> tokens) {
  __shared__ float scratch[kWarpSize];
  const std::int64_t token = blockIdx.x, n = tokens.num_tokens;
  const std::int32_t target = tokens.targets[token];
  RunningSum total = {0, 1};
  float target_logit = 0;
  if (target != kIgnoredTarget) {
    T* row = tokens.logits + token * tokens.logits_stride;
    RunningSum mine;
    for_row(
        row, tokens.vocab_size,
        [&](int, const Vector<T, kVectorElements<T>>& values) {
          float x[kVectorElements<T>];
#pragma unroll
          for (int e = 0; e < kVectorElements<T>; ++e) x[e] = to_float(values.v[e]);
          mine.add(x);
        },
        [&](int column) {
          const float x[1] = {to_float(row[column])};
          mine.add(x);
        });
    total = block_total(mine, scratch);
    const int column = tokens.column(target);
    target_logit = column < 0 ? -INFINITY : to_float(row[column]);
  }
  if (threadIdx.x != 0) return;
  tokens.statistics[token] = total.max;
  tokens.statistics[n + token] = total.sum;
  tokens.statistics[2 * n + token] = target_logit;
}

template <class T>
__device__ __forceinline__ float loss_of(const Tokens<T>& tokens, std::int64_t token) {
  if (tokens.targets[token] == kIgnoredTarget) return 0;
  const std::int64_t n = tokens.num_tokens;
  const float above_target = tokens.statistics[token] - tokens.statistics[2 * n + token];
  return logf(tokens.statistics[n + token]) + above_target;
}

template <class T>
__global__ void __launch_bounds__(kThreads) loss_kernel(const Tokens<T> tokens) {
  const std::int64_t token = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (token < tokens.num_tokens) tokens.loss[token] = loss_of(tokens, token);
}

// to = from, or zero where `from` is null. `vectors`: both rows are aligned.
template <class T>
__device__ __forceinline__ void set_row(T* to, const T* from, int n, bool vectors) {
  constexpr int kCount = kVectorElements<T>;
  const int whole = vectors ? n / kCount : 0;
#pragma unroll 2
  for (int i = threadIdx.x; i < whole; i += kThreads) {
    Vector<T, kCount> values = {};
    if (from != nullptr) values = load_vector(from + std::int64_t{i} * kCount);
    store_vector(to + std::int64_t{i} * kCount, values);
  }
#pragma unroll 2
  for (int i = whole * kCount + static_cast<int>(threadIdx.x); i < n; i += kThreads)
    to[i] = from == nullptr ? from_float<T>(0) : from[i];
}

// x and counted_x of Chunk.
template <class T>
struct Inputs {
  const T* x;
  std::int64_t x_stride;
  T* counted_x;
  int hidden_size;
  bool vectors;
};

// Losses and counted_x; gradients over the logits.
template <class T>
__global__ void __launch_bounds__(kThreads, kBlocks)
    gradient_kernel(const Tokens<T> tokens, const Inputs<T> inputs, float grad_scale) {
  constexpr int kCount = kVectorElements<T>;
  const std::int64_t token = blockIdx.x;
  const std::int32_t target = tokens.targets[token];
  const bool counted = target != kIgnoredTarget;
  if (threadIdx.x == 0) tokens.loss[token] = loss_of(tokens, token);
  set_row(inputs.counted_x + token * inputs.hidden_size,
          counted ? inputs.x + token * inputs.x_stride : nullptr, inputs.hidden_size, inputs.vectors);
  T* row = tokens.logits + token * tokens.logits_stride;
  if (!counted) {
    set_row<T>(row, nullptr, tokens.vocab_size, true);
    return;
  }
  const float max = tokens.statistics[token];
  const float scale = grad_scale / tokens.statistics[tokens.num_tokens + token];
  const int target_column = tokens.column(target);
  const auto gradient = [&](T logit, int column) {
    const float value = exp_above(to_float(logit), max) * scale;
    return from_float<T>(column == target_column ? value - grad_scale : value);
  };
  for_row(
      row, tokens.vocab_size,
      [&](int column, Vector<T, kCount> values) {
#pragma unroll
        for (int e = 0; e < kCount; ++e) values.v[e] = gradient(values.v[e], column + e);
        store_vector(row + column, values);
      },
      [&](int column) { row[column] = gradient(row[column], column); });
}

template <class T>
Tokens<T> tokens_of_chunk(const LinearCrossEntropyArgs& args, const loss::Chunk& chunk) {
  return {static_cast<T*>(chunk.logits.raw()),
          chunk.logits.stride(0),
          static_cast<int>(chunk.logits.size(1)),
          args.vocab_begin,
          static_cast<const std::int32_t*>(args.targets.raw()),
          static_cast<float*>(chunk.statistics.raw()),
          static_cast<float*>(args.loss.raw()),
          chunk.logits.size(0)};
}

template <class T>
Inputs<T> inputs_of_chunk(const LinearCrossEntropyArgs& args, const loss::Chunk& chunk) {
  const auto* x = static_cast<const T*>(args.x.raw());
  auto* counted_x = static_cast<T*>(chunk.counted_x.raw());
  const std::int64_t hidden_size = args.x.size(1);
  return {x, args.x.stride(0), counted_x, static_cast<int>(hidden_size),
          is_vectorizable(x, args.x.stride(0)) && is_vectorizable(counted_x, hidden_size)};
}

template <class T>
void run_chunk(OpContext& ctx, const LinearCrossEntropyArgs& args, const loss::Chunk& chunk) {
  const Tokens<T> tokens = tokens_of_chunk<T>(args, chunk);
  const dim3 rows(static_cast<unsigned>(tokens.num_tokens)), block(kThreads);
  const cudaStream_t stream = native_stream(ctx);
  matmul(ctx, {args.x, args.w, chunk.logits, {.transpose_b = true}});
  launch(statistics_kernel<T>, rows, block, 0, stream, tokens);
  if (args.exchange.merge != nullptr) args.exchange.merge(args.exchange.user, chunk.statistics);
  if (!args.dx) {
    launch(loss_kernel<T>, dim3(static_cast<unsigned>(ceil_div(tokens.num_tokens, kThreads))), block, 0,
           stream, tokens);
    return;
  }
  launch(gradient_kernel<T>, rows, block, 0, stream, tokens, inputs_of_chunk<T>(args, chunk),
         args.grad_scale);
  matmul(ctx, {chunk.logits, args.w, args.dx, {}});
  matmul(ctx, {chunk.logits, chunk.counted_x, args.dw, {.transpose_a = true, .accumulate = true}});
}

}  // namespace

void linear_cross_entropy(OpContext& ctx, const LinearCrossEntropyArgs& all) {
  const auto run = all.x.dtype() == DType::kBF16 ? run_chunk<__nv_bfloat16> : run_chunk<float>;
  loss::for_each_chunk(
      all, [&](const LinearCrossEntropyArgs& args, const loss::Chunk& chunk) { run(ctx, args, chunk); });
}

}  // namespace terroir::cuda
