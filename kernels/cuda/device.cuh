// What every .cu file includes, and the only thing it includes of CUDA: launching, vector access,
// conversions, sums over warps and blocks. Compiled by nvcc for GPUs and by the host compiler for the tests
// that run kernels on a CPU; nothing here or in a .cu file asks which.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include <device_world.h>  // kernels/cuda/nvcc/ or that of the tests
#include "kernels/cuda/cuda_error.h"
#include "kernels/tensor/op_context.h"

namespace terroir::cuda {

constexpr int kWarpSize = 32;
constexpr unsigned kFullWarp = 0xFFFFFFFFU;

inline cudaStream_t native_stream(const OpContext& ctx) {
  return static_cast<cudaStream_t>(ctx.stream.native());
}

// Enqueues kernel(arguments...) on `stream`. More than 48 KiB of dynamic shared memory needs
// allow_shared_memory() first. Throws SystemError for a launch the device refuses; what happens while it runs
// shows at a later wait.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;  // nothing to do
  [&](Parameters... values) {
    void* pointers[] = {static_cast<void*>(&values)..., nullptr};
    check(cudaLaunchKernel(kernel, grid, block, pointers, shared_bytes, stream), "cudaLaunchKernel");
  }(static_cast<Parameters>(std::forward<Arguments>(arguments))...);
}

template <class... Parameters>
void allow_shared_memory(void (*kernel)(Parameters...), std::size_t bytes) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "cudaFuncSetAttribute");
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// --- values ---

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }
template <class T>
__device__ __forceinline__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

// kCount elements that are loaded and stored at once. An array of at most 16 bytes is one access.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Vector {
  T v[kCount];
};
// Elements of 16 bytes: 4 floats, 8 bf16.
template <class T>
constexpr int kVectorElements = 16 / static_cast<int>(sizeof(T));

template <class T>
__device__ __forceinline__ Vector<T, kVectorElements<T>> load_vector(const T* pointer) {
  return *reinterpret_cast<const Vector<T, kVectorElements<T>>*>(pointer);
}
template <class T>
__device__ __forceinline__ void store_vector(T* pointer, const Vector<T, kVectorElements<T>>& value) {
  unsigned words[4];
  memcpy(words, &value, sizeof words);
  store_16_bytes(pointer, words);
}

// Whether rows that start at `pointer` and lie `stride` elements apart can be accessed 16 bytes at a time.
template <class T>
bool is_vectorizable(const T* pointer, std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0 && stride % kVectorElements<T> == 0;
}

// --- sums ---

// Over a warp; every lane gets the same bits.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(kFullWarp, value, offset);
  return value;
}
__device__ __forceinline__ double warp_sum(double value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(kFullWarp, value, offset);
  return value;
}
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2)
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, offset));
  return value;
}

// Over a block of blockDim.x threads, a multiple of 32 and at most 1024; every thread gets the same bits.
// `scratch`: kWarpSize values of shared memory. Begins and ends with a barrier: scratch may be used again at
// once.
template <class T>
__device__ __forceinline__ T block_sum(T value, T* scratch) {
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  value = warp_sum(value);
  __syncthreads();
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  const int num_warps = blockDim.x / kWarpSize;
  value = warp_sum(lane < num_warps ? scratch[lane] : T(0));
  __syncthreads();
  return value;
}

}  // namespace terroir::cuda
