// Kernels with a bug each, which the detectors must find (see planted_test.cc), and the same kernels without
// it.
#include "tests/cuda_on_cpu/planted.h"

#include "kernels/cuda/device.cuh"

namespace terroir::cuda {
namespace {

// out[i] = in[n - 1 - i] through shared memory.
template <bool kBarrier>
__global__ void reverse_kernel(const float* in, float* out) {
  DYNAMIC_SHARED(float, shared);
  shared[threadIdx.x] = in[threadIdx.x];
  if constexpr (kBarrier) __syncthreads();
  out[threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}

// out[i] = in[i] + 1, and one element too many.
__global__ void overrun_global_kernel(const float* in, float* out, int n) {
  if (static_cast<int>(threadIdx.x) <= n) out[threadIdx.x] = in[0] + 1;
}
__global__ void overrun_shared_kernel(float* out) {
  DYNAMIC_SHARED(float, shared);
  shared[threadIdx.x + 1] = 1;  // the last thread's is beyond the block's memory
  __syncthreads();
  out[threadIdx.x] = shared[threadIdx.x];
}
__global__ void misaligned_vector_kernel(const float* in, float* out) {
  store_vector(out, load_vector(in + 1));  // 16 bytes from an address that is a multiple of 4
}

// Half of a block waits at one barrier, half at another.
__global__ void divergent_barrier_kernel(float* out) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  out[threadIdx.x] = 1;
}
// Lane 0 is in the mask and does not come.
__global__ void missing_lane_kernel(float* out) {
  float value = 1;
  if (threadIdx.x != 0) value = __shfl_xor_sync(kFullWarp, value, 1);
  out[threadIdx.x] = value;
}
// Copies to shared memory are read before they were waited for.
template <bool kWait>
__global__ void async_copy_kernel(const float* in, float* out) {
  DYNAMIC_SHARED(float, shared);
  cp_async_16(shared + 4 * threadIdx.x, in + 4 * threadIdx.x);
  cp_async_commit();
  if constexpr (kWait) cp_async_wait<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = shared[4 * threadIdx.x + i];
}

// Blocks add to one float in the order in which they come.
__global__ void order_dependent_sum_kernel(const float* in, float* out) { atomicAdd(out, in[blockIdx.x]); }

}  // namespace

void planted(Plant plant, const Stream& stream, const float* in, float* out, int n) {
  auto* native = static_cast<cudaStream_t>(stream.native());
  const std::size_t shared = static_cast<std::size_t>(n) * sizeof(float);
  const auto threads = static_cast<unsigned>(n);
  switch (plant) {
    case Plant::kNone:
      return launch(reverse_kernel<true>, 1, threads, shared, native, in, out);
    case Plant::kNoBarrier:
      return launch(reverse_kernel<false>, 1, threads, shared, native, in, out);
    case Plant::kGlobalOverrun:
      return launch(overrun_global_kernel, 1, threads + 1, 0, native, in, out, n);
    case Plant::kSharedOverrun:
      return launch(overrun_shared_kernel, 1, threads, shared, native, out);
    case Plant::kMisalignedVector:
      return launch(misaligned_vector_kernel, 1, 1, 0, native, in, out);
    case Plant::kDivergentBarrier:
      return launch(divergent_barrier_kernel, 1, threads, 0, native, out);
    case Plant::kMissingLane:
      return launch(missing_lane_kernel, 1, 32, 0, native, out);
    case Plant::kAsyncCopy:
      return launch(async_copy_kernel<true>, 1, threads / 4, shared, native, in, out);
    case Plant::kAsyncCopyNotAwaited:
      return launch(async_copy_kernel<false>, 1, threads / 4, shared, native, in, out);
    case Plant::kOrderDependentSum:
      return launch(order_dependent_sum_kernel, threads, 1, 0, native, in, out);
    case Plant::kTooManyThreads:
      return launch(reverse_kernel<true>, 1, 1025, shared, native, in, out);
  }
}

}  // namespace terroir::cuda
