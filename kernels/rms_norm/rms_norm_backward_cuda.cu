// One pass over rows, each read once. Blocks stay for many rows and keep their part of the weight gradient in
// registers; a second kernel sums the parts.
#include "kernels/cuda/piece.cuh"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rms_norm/row_team.cuh"
#include "kernels/rms_norm/sum_parts.cuh"

namespace terroir::cuda {
namespace {

constexpr int kBlockThreads = 512;

template <class T>
struct Backward {
  DeviceRows<const T> dy, dresidual, residual;
  const T* weight;
  const float* rstd;
  DeviceRows<T> dx;
  float* parts;  // [blocks, hidden]
  std::int64_t rows, heads, hidden;
};

// What a thread holds of a row while its sum is on its way around the team.
template <class T, int kPieces>
struct RowPieces {
  static constexpr bool kWithLater = kPieces < 4;  // else too much for the registers: read when it is used
  Piece<T> residual[kPieces], dresidual[kPieces];
  float gradient[kPieces][Piece<T>::kElements];  // weight dy
};

// Piece i is columns [begin + i * step, ...), where that is below `end`; zero elsewhere. Adds to dweight;
// returns this thread's part of the sum of gradient * residual.
template <class T, int kPieces>
__device__ __forceinline__ float load_row(const Backward<T>& p, const RowNumber& at, std::int64_t begin,
                                          std::int64_t step, std::int64_t end, float rstd,
                                          RowPieces<T, kPieces>& row,
                                          float (&dweight)[kPieces][Piece<T>::kElements]) {
  Piece<T> dy[kPieces] = {}, weight[kPieces] = {};
  row = {};
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const std::int64_t column = begin + i * step;
    if (column >= end) continue;
    dy[i] = Piece<T>::load(p.dy.row(at.token, at.head) + column);
    row.residual[i] = Piece<T>::load(p.residual.row(at.token, at.head) + column);
    if (RowPieces<T, kPieces>::kWithLater && p.dresidual.data != nullptr)
      row.dresidual[i] = Piece<T>::load(p.dresidual.row(at.token, at.head) + column);
    weight[i] = Piece<T>::load(p.weight + column);
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kPieces; ++i)
#pragma unroll
    for (int e = 0; e < Piece<T>::kElements; ++e) {
      dweight[i][e] += dy[i][e] * (row.residual[i][e] * rstd);
      row.gradient[i][e] = dy[i][e] * weight[i][e];
      sum += row.gradient[i][e] * row.residual[i][e];
    }
  return sum;
}

// The block's part of dweight.
template <int kPieces, int kElements>
__device__ __forceinline__ void write_part(const float (&dweight)[kPieces][kElements], const TeamPlace& place,
                                           std::int64_t hidden, float* shared, float* part) {
  float* to = place.num_teams == 1 ? part : shared + place.team * hidden;
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const std::int64_t column = (place.lane + static_cast<std::int64_t>(i) * place.width) * kElements;
    if (column >= hidden) continue;
#pragma unroll
    for (int e = 0; e < kElements; ++e) to[column + e] = dweight[i][e];
  }
  if (place.num_teams > 1) sum_teams(shared, place.num_teams, hidden, part);
}

template <class T, int kPieces, int kBlocks>
__global__ void __launch_bounds__(kBlockThreads, kBlocks) backward_kernel(Backward<T> p, int width) {
  constexpr int kElements = kVectorElements<T>;
  DYNAMIC_SHARED(float, shared);
  __shared__ float scratch[2][kWarpSize];
  const TeamPlace place = team_place(width);
  const std::int64_t step = static_cast<std::int64_t>(width) * kElements;
  const std::int64_t begin = static_cast<std::int64_t>(place.lane) * kElements;
  float dweight[kPieces][kElements] = {};
  int turn = 0;
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * place.num_teams; first < p.rows;
       first += static_cast<std::int64_t>(gridDim.x) * place.num_teams) {
    const std::int64_t row = first + place.team;
    const std::int64_t end = row < p.rows ? p.hidden : 0;  // no piece for teams without a row
    const RowNumber at = row_number(row, p.heads);
    const float rstd = row < p.rows ? p.rstd[row] : 0.0F;
    RowPieces<T, kPieces> pieces;
    float sum[1] = {load_row(p, at, begin, step, end, rstd, pieces, dweight)};
    team_sum(sum, place, scratch[turn]);
    turn = 1 - turn;
    const float mean = sum[0] * rstd / static_cast<float>(p.hidden);
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const std::int64_t column = begin + i * step;
      if (column >= end) continue;
      if (!RowPieces<T, kPieces>::kWithLater && p.dresidual.data != nullptr)
        pieces.dresidual[i] = Piece<T>::load(p.dresidual.row(at.token, at.head) + column);
      float dx[kElements];
#pragma unroll
      for (int e = 0; e < kElements; ++e)
        dx[e] = rstd * (pieces.gradient[i][e] - pieces.residual[i][e] * rstd * mean) + pieces.dresidual[i][e];
      store_rounded(p.dx.row(at.token, at.head) + column, dx);
    }
  }
  write_part(dweight, place, p.hidden, shared, p.parts + blockIdx.x * p.hidden);
}

// Any row length and alignment: element by element, a block per row, dweight's part in memory. Each thread
// owns its columns throughout.
template <class T>
__global__ void __launch_bounds__(256) backward_any_kernel(Backward<T> p) {
  __shared__ float scratch[kWarpSize];
  float* part = p.parts + blockIdx.x * p.hidden;
  for (std::int64_t h = threadIdx.x; h < p.hidden; h += blockDim.x) part[h] = 0;
  for (std::int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const RowNumber at = row_number(row, p.heads);
    const T* dy = p.dy.row(at.token, at.head);
    const T* residual = p.residual.row(at.token, at.head);
    float sum = 0;
    for (std::int64_t h = threadIdx.x; h < p.hidden; h += blockDim.x)
      sum += to_float(dy[h]) * to_float(p.weight[h]) * to_float(residual[h]);
    const float rstd = p.rstd[row];
    const float mean = block_sum(sum, scratch) * rstd / static_cast<float>(p.hidden);
    for (std::int64_t h = threadIdx.x; h < p.hidden; h += blockDim.x) {
      const float gradient = to_float(dy[h]), normalized = to_float(residual[h]) * rstd;
      const float later =
          p.dresidual.data != nullptr ? to_float(p.dresidual.row(at.token, at.head)[h]) : 0.0F;
      part[h] += gradient * normalized;
      p.dx.row(at.token, at.head)[h] =
          from_float<T>(rstd * (gradient * to_float(p.weight[h]) - normalized * mean) + later);
    }
  }
}

// Both return the number of parts. kBlocks: how many are to fit a multiprocessor.
template <class T, int kPieces, int kBlocks>
std::int64_t launch_backward(const OpContext& ctx, const Backward<T>& p) {
  const RowTeams teams = row_teams(ceil_div(p.hidden / kVectorElements<T>, kPieces), kBlockThreads);
  const std::int64_t groups = ceil_div(p.rows, teams.per_block);
  const std::int64_t blocks = std::min(groups, kRmsNormMaxParts);
  const std::int64_t shared_floats = teams.per_block == 1 ? 0 : teams.per_block * p.hidden;
  launch(backward_kernel<T, kPieces, kBlocks>, dim3(static_cast<unsigned>(blocks)),
         dim3(static_cast<unsigned>(teams.threads())),
         static_cast<std::size_t>(shared_floats) * sizeof(float), native_stream(ctx), p, teams.width);
  return blocks;
}
template <class T>
std::int64_t launch_backward_any(const OpContext& ctx, const Backward<T>& p) {
  const std::int64_t blocks = std::min(p.rows, kRmsNormMaxParts);
  launch(backward_any_kernel<T>, dim3(static_cast<unsigned>(blocks)), dim3(256), 0, native_stream(ctx), p);
  return blocks;
}

template <class T>
std::int64_t launch_backward_for(const OpContext& ctx, const Backward<T>& p) {
  const std::int64_t pieces = p.hidden / kVectorElements<T>;
  const bool vectorize = p.hidden % kVectorElements<T> == 0 && p.dy.vectorizable() &&
                         p.dresidual.vectorizable() && p.residual.vectorizable() && p.dx.vectorizable() &&
                         is_vectorizable(p.weight, 0);
  if (!vectorize || pieces > 2048) return launch_backward_any(ctx, p);
  if (pieces <= 512) return launch_backward<T, 1, 2>(ctx, p);
  if (pieces <= 1024) return launch_backward<T, 2, 1>(ctx, p);
  return launch_backward<T, 4, 1>(ctx, p);
}

template <class T>
void backward(const OpContext& ctx, const RmsNormBackwardArgs& args) {
  const Backward<T> p = {.dy = DeviceRows<const T>::of(args.dy),
                         .dresidual = DeviceRows<const T>::of(args.dresidual),
                         .residual = DeviceRows<const T>::of(args.residual),
                         .weight = static_cast<const T*>(args.weight.raw()),
                         .rstd = static_cast<const float*>(args.rstd.raw()),
                         .dx = DeviceRows<T>::of(args.dx),
                         .parts = static_cast<float*>(args.workspace.raw()),
                         .rows = args.rstd.numel(),
                         .heads = args.dy.rank() == 3 ? args.dy.size(1) : 1,
                         .hidden = args.weight.size(0)};
  if (p.rows == 0) return;
  const std::int64_t parts = launch_backward_for(ctx, p);
  sum_parts(ctx, p.parts, p.hidden, {parts, static_cast<float*>(args.dweight.raw())});
}

}  // namespace

void rms_norm_backward(OpContext& ctx, const RmsNormBackwardArgs& args) {
  if (args.dy.dtype() == DType::kBF16) {
    backward<__nv_bfloat16>(ctx, args);
  } else {
    backward<float>(ctx, args);
  }
}

}  // namespace terroir::cuda
