// Blocks stay for many heads, all queries or all keys, and keep their part of that weight's gradient in
// registers; a second kernel sums the parts. Teams and threads as in forward.
#include "kernels/cuda/piece.cuh"
#include "kernels/qk_norm_rope/qk_norm_rope.h"
#include "kernels/rms_norm/row_team.cuh"
#include "kernels/rms_norm/sum_parts.cuh"
#include "kernels/rope/rotate.cuh"

namespace terroir::cuda {
namespace {

constexpr int kThreads = 256;

// The heads of one kind, and the blocks that go through them.
template <class T>
struct Kind {
  const T* weight;
  std::int64_t first_head, heads;
  std::int64_t blocks;
};

template <class T>
struct Backward {
  Kind<T> query, key;
  DeviceRows<T> dx;
  DeviceRows<const T> before;
  const float* rstd;
  const std::int32_t* positions;
  const float* table;
  std::int64_t table_stride;
  float* parts;  // [query.blocks + key.blocks, 2 half]
  std::int64_t tokens, all_heads, half;
};

// This block's share: rows first, first + stride, ... of a kind, row = token * kind.heads + head.
template <class T>
struct Share {
  Kind<T> kind;
  std::int64_t block;
};
template <class T>
__device__ __forceinline__ Share<T> share_of(const Backward<T>& p) {
  const std::int64_t block = blockIdx.x;
  if (block < p.query.blocks) return {p.query, block};
  return {p.key, block - p.query.blocks};
}

// A thread's planes of one head: weight times the gradient turned back, and what the norm read.
template <class T>
struct Planes {
  Piece<T> first_before = {}, second_before = {};
  float first[Piece<T>::kElements] = {}, second[Piece<T>::kElements] = {};
};

// Planes [i, i + kElements) of a head; adds to dweight, and returns this thread's part of the sum of gradient
// * before.
template <class T>
__device__ __forceinline__ float load_planes(const Backward<T>& p, const T* weight, std::int64_t token,
                                             std::int64_t head, std::int64_t i, float rstd,
                                             float (&dweight)[2][Piece<T>::kElements], Planes<T>& planes) {
  constexpr int kElements = Piece<T>::kElements;
  const T *dx = p.dx.row(token, head) + i, *before = p.before.row(token, head) + i;
  const Piece<T> first = Piece<T>::load(dx), second = Piece<T>::load(dx + p.half);
  planes.first_before = Piece<T>::load(before);
  planes.second_before = Piece<T>::load(before + p.half);
  const float* row = p.table + p.positions[token] * p.table_stride + i;
  float cosines[kElements], sines[kElements];
  load_angles(row, cosines);
  load_angles(row + p.half, sines);
  const Piece<T> first_weight = Piece<T>::load(weight + i),
                 second_weight = Piece<T>::load(weight + p.half + i);
  float sum = 0;
#pragma unroll
  for (int e = 0; e < kElements; ++e) {
    float a = first[e], b = second[e];
    rotate(a, b, cosines[e], sines[e], true);
    dweight[0][e] += a * (planes.first_before[e] * rstd);
    dweight[1][e] += b * (planes.second_before[e] * rstd);
    planes.first[e] = a * first_weight[e];
    planes.second[e] = b * second_weight[e];
    sum += planes.first[e] * planes.first_before[e] + planes.second[e] * planes.second_before[e];
  }
  return sum;
}

template <class T>
__device__ __forceinline__ void store_planes(const Planes<T>& planes, float rstd, float mean,
                                             std::int64_t half, T* dx) {
  float first[Piece<T>::kElements], second[Piece<T>::kElements];
#pragma unroll
  for (int e = 0; e < Piece<T>::kElements; ++e) {
    first[e] = rstd * (planes.first[e] - planes.first_before[e] * rstd * mean);
    second[e] = rstd * (planes.second[e] - planes.second_before[e] * rstd * mean);
  }
  store_rounded(dx, first);
  store_rounded(dx + half, second);
}

template <class T>
__global__ void __launch_bounds__(kThreads, 3) backward_kernel(Backward<T> p, int width) {
  constexpr int kElements = Piece<T>::kElements;
  DYNAMIC_SHARED(float, shared);
  const TeamPlace place = team_place(width);
  const Share<T> share = share_of(p);
  const std::int64_t i = static_cast<std::int64_t>(place.lane) * kElements;
  const std::int64_t rows = p.tokens * share.kind.heads;
  float dweight[2][kElements] = {};

  for (std::int64_t first = share.block * place.num_teams; first < rows;
       first += share.kind.blocks * place.num_teams) {
    const std::int64_t row = first + place.team;
    const std::int64_t token = row / share.kind.heads;
    const std::int64_t head = share.kind.first_head + row - token * share.kind.heads;
    const bool active = row < rows && i < p.half;
    Planes<T> planes;
    float rstd = 0, sum[1] = {0};
    if (active) {
      rstd = p.rstd[token * p.all_heads + head];
      sum[0] = load_planes(p, share.kind.weight, token, head, i, rstd, dweight, planes);
    }
    team_sum(sum, place, nullptr);
    const float mean = sum[0] * rstd / static_cast<float>(2 * p.half);
    if (active) store_planes(planes, rstd, mean, p.half, p.dx.row(token, head) + i);
  }

  if (i < p.half) {
#pragma unroll
    for (int e = 0; e < kElements; ++e) {
      shared[place.team * 2 * p.half + i + e] = dweight[0][e];
      shared[place.team * 2 * p.half + p.half + i + e] = dweight[1][e];
    }
  }
  sum_teams(shared, place.num_teams, 2 * p.half, p.parts + blockIdx.x * 2 * p.half);
}

// Any head size and alignment: element by element, a block of one warp per head, whose lanes own their planes
// throughout.
template <class T>
__global__ void __launch_bounds__(kWarpSize) backward_any_kernel(Backward<T> p) {
  const Share<T> share = share_of(p);
  const T *weight = share.kind.weight, *second_weight = weight + p.half;
  float *part = p.parts + blockIdx.x * 2 * p.half, *second_part = part + p.half;
  for (std::int64_t i = threadIdx.x; i < p.half; i += kWarpSize) part[i] = second_part[i] = 0;
  for (std::int64_t row = share.block; row < p.tokens * share.kind.heads; row += share.kind.blocks) {
    const std::int64_t token = row / share.kind.heads;
    const std::int64_t head = share.kind.first_head + row - token * share.kind.heads;
    const float* angles = p.table + p.positions[token] * p.table_stride;
    const float rstd = p.rstd[token * p.all_heads + head];
    const T *before = p.before.row(token, head), *second_before = before + p.half;
    T *dx = p.dx.row(token, head), *second_dx = dx + p.half;
    float sum = 0;
    for (std::int64_t i = threadIdx.x; i < p.half; i += kWarpSize) {
      float a = to_float(dx[i]), b = to_float(second_dx[i]);
      rotate(a, b, angles[i], angles[p.half + i], true);
      sum += a * to_float(weight[i]) * to_float(before[i]) +
             b * to_float(second_weight[i]) * to_float(second_before[i]);
    }
    const float mean = warp_sum(sum) * rstd / static_cast<float>(2 * p.half);
    for (std::int64_t i = threadIdx.x; i < p.half; i += kWarpSize) {
      float a = to_float(dx[i]), b = to_float(second_dx[i]);
      rotate(a, b, angles[i], angles[p.half + i], true);
      const float a_normed = to_float(before[i]) * rstd, b_normed = to_float(second_before[i]) * rstd;
      part[i] += a * a_normed;
      second_part[i] += b * b_normed;
      dx[i] = from_float<T>(rstd * (a * to_float(weight[i]) - a_normed * mean));
      second_dx[i] = from_float<T>(rstd * (b * to_float(second_weight[i]) - b_normed * mean));
    }
  }
}

// Blocks in proportion to heads, no more than there are rows for.
template <class T>
void divide_blocks(Backward<T>& p, std::int64_t teams_per_block) {
  for (Kind<T>* kind : {&p.query, &p.key}) {
    const std::int64_t share = std::max<std::int64_t>(1, kQkNormRopeMaxParts * kind->heads / p.all_heads);
    kind->blocks = std::min(ceil_div(p.tokens * kind->heads, teams_per_block), share);
  }
}

template <class T>
void launch_backward(const OpContext& ctx, Backward<T>& p) {
  const std::int64_t pieces = p.half / Piece<T>::kElements;
  const bool vectorize = p.half % Piece<T>::kElements == 0 && pieces <= kWarpSize && p.dx.vectorizable() &&
                         p.before.vectorizable() && is_vectorizable(p.query.weight, 0) &&
                         is_vectorizable(p.key.weight, 0) && is_vectorizable(p.table, p.table_stride);
  const RowTeams teams = row_teams(pieces, kThreads);
  divide_blocks(p, vectorize ? teams.per_block : 1);
  const dim3 blocks(static_cast<unsigned>(p.query.blocks + p.key.blocks));
  if (vectorize) {
    const auto shared_bytes = static_cast<std::size_t>(teams.per_block * 2 * p.half) * sizeof(float);
    launch(backward_kernel<T>, blocks, dim3(kThreads), shared_bytes, native_stream(ctx), p, teams.width);
  } else {
    launch(backward_any_kernel<T>, blocks, dim3(kWarpSize), 0, native_stream(ctx), p);
  }
}

template <class T>
void backward(const OpContext& ctx, const QkNormRopeBackwardArgs& args) {
  const std::int64_t heads = args.dx.size(1);
  Backward<T> p = {
      .query = {static_cast<const T*>(args.q_weight.raw()), 0, args.query_heads, 0},
      .key = {static_cast<const T*>(args.k_weight.raw()), args.query_heads, heads - args.query_heads, 0},
      .dx = DeviceRows<T>::of(args.dx),
      .before = DeviceRows<const T>::of(args.before),
      .rstd = static_cast<const float*>(args.rstd.raw()),
      .positions = static_cast<const std::int32_t*>(args.positions.raw()),
      .table = static_cast<const float*>(args.table.raw()),
      .table_stride = args.table.stride(0),
      .parts = static_cast<float*>(args.workspace.raw()),
      .tokens = args.dx.size(0),
      .all_heads = heads,
      .half = args.dx.size(2) / 2};
  if (args.dx.numel() == 0) return;
  launch_backward(ctx, p);
  sum_parts(ctx, p.parts, 2 * p.half, {p.query.blocks, static_cast<float*>(args.dq_weight.raw())},
            {p.key.blocks, static_cast<float*>(args.dk_weight.raw())});
}

}  // namespace

void qk_norm_rope_backward(OpContext& ctx, const QkNormRopeBackwardArgs& args) {
  if (args.dx.dtype() == DType::kBF16) {
    backward<__nv_bfloat16>(ctx, args);
  } else {
    backward<float>(ctx, args);
  }
}

}  // namespace terroir::cuda
