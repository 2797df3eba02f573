#include "kernels/attention/cudnn_layout.h"
#include "kernels/cuda/device.cuh"

namespace terroir::cuda {
namespace {

constexpr int kTableThreads = 128;
constexpr int kTile = 32, kTileRows = 8;  // a block of 32 x 8 threads moves 32 x 32 elements

// std::array has no device functions: plain copies.
struct DeviceTables {
  const std::int32_t* starts;
  std::int64_t num_sequences;
  std::int32_t* lengths;
  std::int64_t* offsets[SequenceTables::kMaxTables];
  std::int64_t token_strides[SequenceTables::kMaxTables];
};

__global__ void tables_kernel(DeviceTables tables) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i > tables.num_sequences) return;
  const std::int64_t start = tables.starts[i];
  if (i < tables.num_sequences) tables.lengths[i] = tables.starts[i + 1] - static_cast<std::int32_t>(start);
#pragma unroll
  for (int t = 0; t < SequenceTables::kMaxTables; ++t)
    if (tables.offsets[t] != nullptr) tables.offsets[t][i] = start * tables.token_strides[t];
}

// Through shared memory, so that both sides are accessed along their rows; the extra column keeps a tile's
// columns in different banks.
__global__ void transpose_kernel(const float* from, float* to, std::int64_t rows, std::int64_t columns) {
  __shared__ float tile[kTile][kTile + 1];
  const std::int64_t matrix = static_cast<std::int64_t>(blockIdx.z) * rows * columns;
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const std::int64_t first_column = static_cast<std::int64_t>(blockIdx.y) * kTile;
  const int x = threadIdx.x;
  for (int y = threadIdx.y; y < kTile; y += kTileRows) {
    const std::int64_t row = first_row + y, column = first_column + x;
    if (row < rows && column < columns) tile[y][x] = from[matrix + row * columns + column];
  }
  __syncthreads();
  for (int y = threadIdx.y; y < kTile; y += kTileRows) {
    const std::int64_t row = first_row + x, column = first_column + y;
    if (row < rows && column < columns) to[matrix + column * rows + row] = tile[x][y];
  }
}

}  // namespace

void write_sequence_tables(OpContext& ctx, const SequenceTables& tables) {
  DeviceTables device = {tables.starts, tables.num_sequences, tables.lengths, {}, {}};
  for (std::size_t t = 0; t < SequenceTables::kMaxTables; ++t) {
    device.offsets[t] = tables.offsets[t];
    device.token_strides[t] = tables.token_strides[t];
  }
  const dim3 grid(static_cast<unsigned>(ceil_div(tables.num_sequences + 1, kTableThreads)));
  launch(tables_kernel, grid, dim3(kTableThreads), 0, native_stream(ctx), device);
}

void transpose(OpContext& ctx, const float* from, float* to, std::int64_t num_matrices, std::int64_t rows,
               std::int64_t columns) {
  const dim3 grid(static_cast<unsigned>(ceil_div(rows, kTile)),
                  static_cast<unsigned>(ceil_div(columns, kTile)), static_cast<unsigned>(num_matrices));
  launch(transpose_kernel, grid, dim3(kTile, kTileRows), 0, native_stream(ctx), from, to, rows, columns);
}

}  // namespace terroir::cuda
