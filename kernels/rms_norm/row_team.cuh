// How CUDA kernels that normalize rows divide a block: into teams of threads, one row each at a time.
#pragma once

#include <algorithm>

#include "kernels/cuda/device.cuh"

namespace terroir::cuda {

// `width` threads a team: a power of two below a warp, or whole warps.
struct RowTeams {
  int width = 1, per_block = 1;
  int threads() const { return width * per_block; }
};
// At least `wanted` <= 1024 threads for a row, in blocks of up to `block_threads` (a multiple of 32) or one
// team.
inline RowTeams row_teams(std::int64_t wanted, int block_threads) {
  int width = 1;
  while (width < wanted && width < kWarpSize) width *= 2;
  if (wanted > kWarpSize) width = static_cast<int>(ceil_div(wanted, kWarpSize)) * kWarpSize;
  return {width, std::max(1, block_threads / width)};
}

// Where this thread stands.
struct TeamPlace {
  int width, team, lane, num_teams;
};
__device__ __forceinline__ TeamPlace team_place(int width) {
  const int thread = static_cast<int>(threadIdx.x), team = thread / width;
  return {width, team, thread - team * width, static_cast<int>(blockDim.x) / width};
}

// Each value summed over the team; every thread of it gets the same bits. All threads of the block call it.
// `scratch`: kCount * kWarpSize values of shared memory, which nothing may write before the block's next
// barrier: calls in turn use two of them in turn.
template <int kCount>
__device__ __forceinline__ void team_sum(float (&values)[kCount], const TeamPlace& place, float* scratch) {
  const int segment = place.width < kWarpSize ? place.width : kWarpSize;
  for (int offset = segment / 2; offset > 0; offset /= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] += __shfl_xor_sync(kFullWarp, values[i], offset);
  }
  if (place.width <= kWarpSize) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize,
            warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int warps = place.width / kWarpSize;
#pragma unroll
  for (int i = 0; i < kCount; ++i)
    if (lane == 0) scratch[i * kWarpSize + warp] = values[i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kCount; ++i)
    values[i] = warp_sum(lane < warps ? scratch[i * kWarpSize + place.team * warps + lane] : 0.0F);
}

// A tensor of rows, [T, H] or [T, heads, H]: row r of the kernel's count is head r % heads of token r /
// heads.
template <class T>
struct DeviceRows {
  T* data = nullptr;  // null: a tensor that was not given
  std::int64_t token_stride = 0, head_stride = 0;

  template <class AnyView>
  static DeviceRows of(const AnyView& view) {
    if (view.rank() == 0) return {};
    return {static_cast<T*>(view.raw()), view.stride(0), view.rank() == 3 ? view.stride(1) : 0};
  }
  __device__ __forceinline__ T* row(std::int64_t token, std::int64_t head) const {
    return data + token * token_stride + head * head_stride;
  }
  // Whether 16-byte accesses fit every row.
  bool vectorizable() const {
    return is_vectorizable(data, token_stride) && head_stride % kVectorElements<T> == 0;
  }
};

struct RowNumber {
  std::int64_t token, head;
};
__device__ __forceinline__ RowNumber row_number(std::int64_t row, std::int64_t heads) {
  if (heads == 1) return {row, 0};
  const std::int64_t token = row / heads;
  return {token, row - token * heads};
}

}  // namespace terroir::cuda
