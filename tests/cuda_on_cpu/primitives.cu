#include "tests/cuda_on_cpu/primitives.h"

#include "kernels/cuda/device.cuh"

namespace terroir::cuda {
namespace {

// d [16, 8] = a [16, 16] b [16, 8], all row-major, bf16 in and f32 out, by one warp. a goes through ldmatrix,
// b through its transposed form.
__global__ void tile_product_kernel(const __nv_bfloat16* a, const __nv_bfloat16* b, float* d) {
  __shared__ __align__(16) __nv_bfloat16 a_tile[16 * 16];
  __shared__ __align__(16) __nv_bfloat16 b_tile[16 * 8];
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += kWarpSize) a_tile[i] = a[i];
  for (int i = lane; i < 128; i += kWarpSize) b_tile[i] = b[i];
  __syncwarp();
  // The four 8x8 parts of a in the order of the fragment: rows 0-7, rows 8-15, and the same of columns 8-15.
  unsigned a_fragment[4], b_both[4];
  ldmatrix_x4(a_fragment, a_tile + (lane % 8 + lane / 8 % 2 * 8) * 16 + lane / 16 * 8);
  ldmatrix_x4_trans(b_both, b_tile + lane % 16 * 8);  // rows 0-7, rows 8-15, and both once more
  const unsigned b_fragment[2] = {b_both[0], b_both[1]};
  float sums[4] = {0, 0, 0, 0};
  mma_m16n8k16_bf16(sums, a_fragment, b_fragment);
  const int row = lane / 4, column = lane % 4 * 2;
  d[row * 8 + column] = sums[0];
  d[row * 8 + column + 1] = sums[1];
  d[(row + 8) * 8 + column] = sums[2];
  d[(row + 8) * 8 + column + 1] = sums[3];
}

// One int a thread of everything that warps exchange.
__global__ void exchanges_kernel(int* out) {
  const int lane = threadIdx.x % kWarpSize, n = blockDim.x;
  out[threadIdx.x] = __shfl_sync(kFullWarp, lane * 10, 5);
  out[n + threadIdx.x] = __shfl_xor_sync(kFullWarp, lane, 3);
  out[2 * n + threadIdx.x] = __shfl_down_sync(kFullWarp, lane, 4);
  out[3 * n + threadIdx.x] = __shfl_up_sync(kFullWarp, lane, 4, 8);
  out[4 * n + threadIdx.x] = static_cast<int>(__ballot_sync(kFullWarp, lane % 3 == 0));
  out[5 * n + threadIdx.x] = __any_sync(kFullWarp, lane == 31) + 2 * __all_sync(kFullWarp, lane < 32);
  out[6 * n + threadIdx.x] = __syncthreads_count(threadIdx.x % 2 == 0);
}

}  // namespace

void tile_product(const Stream& stream, const void* a, const void* b, float* d) {
  launch(tile_product_kernel, 1, kWarpSize, 0, static_cast<cudaStream_t>(stream.native()),
         static_cast<const __nv_bfloat16*>(a), static_cast<const __nv_bfloat16*>(b), d);
}
void exchanges(const Stream& stream, int threads, int* out) {
  launch(exchanges_kernel, 1, static_cast<unsigned>(threads), 0, static_cast<cudaStream_t>(stream.native()),
         out);
}

}  // namespace terroir::cuda
