// One team of threads per row, which it reads once and keeps in registers.
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rms_norm/row_team.cuh"

namespace terroir::cuda {
namespace {

template <class T>
struct Forward {
  DeviceRows<const T> x, delta;
  const T* weight;
  float eps;
  DeviceRows<T> residual, y;
  float* rstd;
  std::int64_t rows, heads, hidden;
};

__device__ __forceinline__ float rstd_of(float sum_squares, std::int64_t hidden, float eps) {
  return 1.0F / sqrtf(sum_squares / static_cast<float>(hidden) + eps);
}

// a = a + b as stored.
template <class T, int kCount>
__device__ __forceinline__ void add_to(Vector<T, kCount>& a, const Vector<T, kCount>& b) {
#pragma unroll
  for (int e = 0; e < kCount; ++e) a.v[e] = from_float<T>(to_float(a.v[e]) + to_float(b.v[e]));
}

// Thread `lane` of a team holds the 16-byte pieces lane, lane + width, ... of the row.
template <class T, int kPieces>
__global__ void __launch_bounds__(512) forward_kernel(Forward<T> p, int width) {
  constexpr int kElements = kVectorElements<T>;
  __shared__ float scratch[kWarpSize];
  const TeamPlace place = team_place(width);
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * place.num_teams + place.team;
  const std::int64_t width_elements = static_cast<std::int64_t>(width) * kElements;
  const std::int64_t begin = static_cast<std::int64_t>(place.lane) * kElements;
  const std::int64_t end = row < p.rows ? p.hidden : 0;  // no piece for teams without a row
  const RowNumber at = row_number(row, p.heads);

  Vector<T, kElements> values[kPieces], delta[kPieces];
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const std::int64_t column = begin + i * width_elements;
    if (column < end) values[i] = load_vector(p.x.row(at.token, at.head) + column);
  }
  if (p.delta.data != nullptr) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const std::int64_t column = begin + i * width_elements;
      if (column < end) delta[i] = load_vector(p.delta.row(at.token, at.head) + column);
    }
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const std::int64_t column = begin + i * width_elements;
      if (column >= end) continue;
      add_to(values[i], delta[i]);
      store_vector(p.residual.row(at.token, at.head) + column, values[i]);
    }
  }

  float sum[1] = {0};
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    if (begin + i * width_elements >= end) continue;
#pragma unroll
    for (int e = 0; e < kElements; ++e) {
      const float value = to_float(values[i].v[e]);
      sum[0] += value * value;
    }
  }
  team_sum(sum, place, scratch);
  const float rstd = rstd_of(sum[0], p.hidden, p.eps);
  if (end != 0 && place.lane == 0) p.rstd[row] = rstd;
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const std::int64_t column = begin + i * width_elements;
    if (column >= end) continue;
    const Vector<T, kElements> weight = load_vector(p.weight + column);
    Vector<T, kElements> y;
#pragma unroll
    for (int e = 0; e < kElements; ++e)
      y.v[e] = from_float<T>(to_float(weight.v[e]) * (to_float(values[i].v[e]) * rstd));
    store_vector(p.y.row(at.token, at.head) + column, y);
  }
}

// Any row length and alignment: element by element, read again for y. A block per row.
template <class T>
__global__ void __launch_bounds__(256) forward_any_kernel(Forward<T> p) {
  __shared__ float scratch[kWarpSize];
  for (std::int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const RowNumber at = row_number(row, p.heads);
    const T* from = p.x.row(at.token, at.head);
    float sum = 0;
    for (std::int64_t h = threadIdx.x; h < p.hidden; h += blockDim.x) {
      T value = from[h];
      if (p.delta.data != nullptr) {
        value = from_float<T>(to_float(value) + to_float(p.delta.row(at.token, at.head)[h]));
        p.residual.row(at.token, at.head)[h] = value;
      }
      sum += to_float(value) * to_float(value);
    }
    const float rstd = rstd_of(block_sum(sum, scratch), p.hidden, p.eps);
    if (threadIdx.x == 0) p.rstd[row] = rstd;
    const T* normed = p.delta.data != nullptr ? p.residual.row(at.token, at.head) : from;
    T* y = p.y.row(at.token, at.head);
    for (std::int64_t h = threadIdx.x; h < p.hidden; h += blockDim.x)
      y[h] = from_float<T>(to_float(p.weight[h]) * (to_float(normed[h]) * rstd));
  }
}

template <class T, int kPieces>
void launch_forward(const OpContext& ctx, const Forward<T>& p) {
  const RowTeams teams = row_teams(ceil_div(p.hidden / kVectorElements<T>, kPieces), 256);
  launch(forward_kernel<T, kPieces>, dim3(static_cast<unsigned>(ceil_div(p.rows, teams.per_block))),
         dim3(static_cast<unsigned>(teams.threads())), 0, native_stream(ctx), p, teams.width);
}

// Two pieces a thread are enough on their way to memory; four where that saves the barrier between warps, or
// threads beyond 512.
template <class T>
void forward(const OpContext& ctx, const RmsNormForwardArgs& args) {
  const Forward<T> p = {.x = DeviceRows<const T>::of(args.x),
                        .delta = DeviceRows<const T>::of(args.delta),
                        .weight = static_cast<const T*>(args.weight.raw()),
                        .eps = args.eps,
                        .residual = DeviceRows<T>::of(args.residual_out),
                        .y = DeviceRows<T>::of(args.y),
                        .rstd = static_cast<float*>(args.rstd.raw()),
                        .rows = args.rstd.numel(),
                        .heads = args.x.rank() == 3 ? args.x.size(1) : 1,
                        .hidden = args.weight.size(0)};
  const std::int64_t pieces = p.hidden / kVectorElements<T>;
  const bool vectorize = p.hidden % kVectorElements<T> == 0 && p.x.vectorizable() && p.y.vectorizable() &&
                         p.delta.vectorizable() && p.residual.vectorizable() && is_vectorizable(p.weight, 0);
  if (!vectorize || pieces > 2048) {
    const auto blocks = static_cast<unsigned>(std::min<std::int64_t>(p.rows, 65535));
    launch(forward_any_kernel<T>, dim3(blocks), dim3(256), 0, native_stream(ctx), p);
  } else if ((pieces > 64 && pieces <= 128) || pieces > 1024) {
    launch_forward<T, 4>(ctx, p);
  } else {
    launch_forward<T, 2>(ctx, p);
  }
}

}  // namespace

void rms_norm_forward(OpContext& ctx, const RmsNormForwardArgs& args) {
  if (args.x.dtype() == DType::kBF16) {
    forward<__nv_bfloat16>(ctx, args);
  } else {
    forward<float>(ctx, args);
  }
}

}  // namespace terroir::cuda
