#include "kernels/rms_norm/sum_parts.cuh"

namespace terroir::cuda {
namespace {

constexpr int kSumThreads = 1024;

// A block sums 32 columns of those parts that its blockIdx.y names: warp w parts w, w + 32, ..., a column to
// each lane; then warp w the 32 sums of column w.
__global__ void __launch_bounds__(kSumThreads)
    sum_parts_kernel(const float* parts, std::int64_t columns, std::int64_t first_count, float* first_out,
                     std::int64_t second_count, float* second_out) {
  __shared__ float sums[kWarpSize][kWarpSize + 1];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize,
            warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kWarpSize;
  const std::int64_t begin = blockIdx.y == 0 ? 0 : first_count;
  const std::int64_t end = blockIdx.y == 0 ? first_count : first_count + second_count;
  float* out = blockIdx.y == 0 ? first_out : second_out;
  float value = 0;
  if (column + lane < columns) {
#pragma unroll 4
    for (std::int64_t part = begin + warp; part < end; part += kWarpSize)
      value += parts[part * columns + column + lane];
  }
  sums[warp][lane] = value;
  __syncthreads();
  value = warp_sum(sums[lane][warp]);
  if (lane == 0 && column + warp < columns) out[column + warp] += value;
}

}  // namespace

void sum_parts(const OpContext& ctx, const float* parts, std::int64_t columns, const PartSum& first,
               const PartSum& second) {
  const dim3 grid(static_cast<unsigned>(ceil_div(columns, kWarpSize)), second.count > 0 ? 2 : 1);
  launch(sum_parts_kernel, grid, dim3(kSumThreads), 0, native_stream(ctx), parts, columns, first.count,
         first.out, second.count, second.out);
}

}  // namespace terroir::cuda
