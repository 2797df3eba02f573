// A team of at most a warp per head. A thread holds 16 bytes of each half of a head, the two coordinates of
// its planes.
#include "kernels/cuda/piece.cuh"
#include "kernels/qk_norm_rope/qk_norm_rope.h"
#include "kernels/rms_norm/row_team.cuh"
#include "kernels/rope/rotate.cuh"

namespace terroir::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeads = 2;  // of one token, which a team loads before it stores the first

template <class T>
struct Forward {
  DeviceRows<T> x, before;
  const T *q_weight, *k_weight;
  const std::int32_t* positions;
  const float* table;
  std::int64_t table_stride;
  float eps;
  float* rstd;
  std::int64_t tokens, heads, query_heads, half;
};

__device__ __forceinline__ float rstd_of(float sum_squares, std::int64_t half, float eps) {
  return 1.0F / sqrtf(sum_squares / static_cast<float>(2 * half) + eps);
}

// Norms and turns the thread's planes of one head, and stores them.
template <class T>
__device__ __forceinline__ void finish_head(const Piece<T>& first, const Piece<T>& second, float rstd,
                                            const T* weight, std::int64_t half,
                                            const float (&cosines)[Piece<T>::kElements],
                                            const float (&sines)[Piece<T>::kElements], T* to) {
  const Piece<T> first_weight = Piece<T>::load(weight), second_weight = Piece<T>::load(weight + half);
  float a[Piece<T>::kElements], b[Piece<T>::kElements];
#pragma unroll
  for (int e = 0; e < Piece<T>::kElements; ++e) {
    a[e] = first_weight[e] * (first[e] * rstd);
    b[e] = second_weight[e] * (second[e] * rstd);
    rotate(a[e], b[e], cosines[e], sines[e], false);
  }
  store_rounded(to, a);
  store_rounded(to + half, b);
}

template <class T>
__global__ void __launch_bounds__(kThreads) forward_kernel(Forward<T> p, int width) {
  constexpr int kElements = Piece<T>::kElements;
  const TeamPlace place = team_place(width);
  const std::int64_t groups = (p.heads + kHeads - 1) / kHeads;
  const std::int64_t group_index = static_cast<std::int64_t>(blockIdx.x) * place.num_teams + place.team;
  const std::int64_t token = group_index / groups, first_head = (group_index - token * groups) * kHeads;
  const std::int64_t i = static_cast<std::int64_t>(place.lane) * kElements;
  const bool active = token < p.tokens && i < p.half;

  Piece<T> first[kHeads] = {}, second[kHeads] = {};
  float sums[kHeads] = {};
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    if (!active || first_head + h >= p.heads) continue;
    first[h] = Piece<T>::load(p.x.row(token, first_head + h) + i);
    second[h] = Piece<T>::load(p.x.row(token, first_head + h) + p.half + i);
  }
  float cosines[kElements] = {}, sines[kElements] = {};
  if (active) {
    const float* row = p.table + p.positions[token] * p.table_stride + i;
    load_angles(row, cosines);
    load_angles(row + p.half, sines);
  }
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int e = 0; e < kElements; ++e) sums[h] += first[h][e] * first[h][e] + second[h][e] * second[h][e];
  }
  team_sum(sums, place, nullptr);
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const std::int64_t head = first_head + h;
    if (!active || head >= p.heads) continue;
    if (p.before.data != nullptr) {
      first[h].store(p.before.row(token, head) + i);
      second[h].store(p.before.row(token, head) + p.half + i);
    }
    const float rstd = rstd_of(sums[h], p.half, p.eps);
    if (place.lane == 0) p.rstd[token * p.heads + head] = rstd;
    const T* weight = head < p.query_heads ? p.q_weight : p.k_weight;
    finish_head(first[h], second[h], rstd, weight + i, p.half, cosines, sines, p.x.row(token, head) + i);
  }
}

// Any head size and alignment: element by element, a warp per head.
template <class T>
__global__ void __launch_bounds__(kThreads) forward_any_kernel(Forward<T> p) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * (kThreads / kWarpSize) +
                           static_cast<int>(threadIdx.x) / kWarpSize;
  if (row >= p.tokens * p.heads) return;  // a whole warp
  const std::int64_t token = row / p.heads, head = row - token * p.heads;
  T* x = p.x.row(token, head);
  float sum = 0;
  for (std::int64_t i = lane; i < 2 * p.half; i += kWarpSize) {
    if (p.before.data != nullptr) p.before.row(token, head)[i] = x[i];
    sum += to_float(x[i]) * to_float(x[i]);
  }
  __syncwarp();  // x is read by other lanes than those that write it below
  const float rstd = rstd_of(warp_sum(sum), p.half, p.eps);
  if (lane == 0) p.rstd[row] = rstd;
  const T* weight = head < p.query_heads ? p.q_weight : p.k_weight;
  const float* angles = p.table + p.positions[token] * p.table_stride;
  for (std::int64_t i = lane; i < p.half; i += kWarpSize) {
    float a = to_float(weight[i]) * (to_float(x[i]) * rstd);
    float b = to_float(weight[p.half + i]) * (to_float(x[p.half + i]) * rstd);
    rotate(a, b, angles[i], angles[p.half + i], false);
    x[i] = from_float<T>(a);
    x[p.half + i] = from_float<T>(b);
  }
}

template <class T>
void forward(const OpContext& ctx, const QkNormRopeForwardArgs& args) {
  const Forward<T> p = {.x = DeviceRows<T>::of(args.x),
                        .before = DeviceRows<T>::of(args.before),
                        .q_weight = static_cast<const T*>(args.q_weight.raw()),
                        .k_weight = static_cast<const T*>(args.k_weight.raw()),
                        .positions = static_cast<const std::int32_t*>(args.positions.raw()),
                        .table = static_cast<const float*>(args.table.raw()),
                        .table_stride = args.table.stride(0),
                        .eps = args.eps,
                        .rstd = static_cast<float*>(args.rstd.raw()),
                        .tokens = args.x.size(0),
                        .heads = args.x.size(1),
                        .query_heads = args.query_heads,
                        .half = args.x.size(2) / 2};
  const std::int64_t pieces = p.half / Piece<T>::kElements;
  const bool vectorize = p.half % Piece<T>::kElements == 0 && pieces <= kWarpSize && p.x.vectorizable() &&
                         p.before.vectorizable() && is_vectorizable(p.q_weight, 0) &&
                         is_vectorizable(p.k_weight, 0) && is_vectorizable(p.table, p.table_stride);
  if (vectorize) {
    const RowTeams teams = row_teams(pieces, kThreads);
    const std::int64_t blocks = ceil_div(p.tokens * ceil_div(p.heads, kHeads), teams.per_block);
    launch(forward_kernel<T>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, native_stream(ctx), p,
           teams.width);
  } else {
    const std::int64_t blocks = ceil_div(p.tokens * p.heads, kThreads / kWarpSize);
    launch(forward_any_kernel<T>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, native_stream(ctx),
           p);
  }
}

}  // namespace

void qk_norm_rope_forward(OpContext& ctx, const QkNormRopeForwardArgs& args) {
  if (args.x.dtype() == DType::kBF16) {
    forward<__nv_bfloat16>(ctx, args);
  } else {
    forward<float>(ctx, args);
  }
}

}  // namespace terroir::cuda
