// The second half of a weight gradient: sums of what teams, then blocks, have summed, in their order.
#pragma once

#include "kernels/cuda/device.cuh"

namespace terroir::cuda {

// part [columns] = the sum of a block's teams, shared [num_teams, columns], in their order. All threads of
// the block call it.
__device__ __forceinline__ void sum_teams(const float* shared, int num_teams, std::int64_t columns,
                                          float* part) {
  __syncthreads();
  for (std::int64_t column = threadIdx.x; column < columns; column += blockDim.x) {
    float sum = 0;
    for (int team = 0; team < num_teams; ++team) sum += shared[team * columns + column];
    part[column] = sum;
  }
}

// Where the sum of `count` consecutive parts is added.
struct PartSum {
  std::int64_t count = 0;
  float* out = nullptr;
};

// first.out [columns] += the sum of the first.count parts, each [columns]; second.out that of the next.
void sum_parts(const OpContext& ctx, const float* parts, std::int64_t columns, const PartSum& first,
               const PartSum& second = {});

}  // namespace terroir::cuda
