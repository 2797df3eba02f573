// The device side of the language: qualifiers, coordinates, barriers, and what the headers below add.
#pragma once

#include <type_traits>

#include "tests/cuda_on_cpu/emulator.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __restrict__ __restrict
// One block runs at a time: its shared arrays may be static, where AddressSanitizer guards their ends.
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

#define threadIdx (::cuda_on_cpu::coordinates.thread)
#define blockIdx (::cuda_on_cpu::coordinates.block)
#define blockDim (::cuda_on_cpu::coordinates.block_size)
#define gridDim (::cuda_on_cpu::coordinates.grid_size)
inline constexpr int warpSize = 32;

// Every operation takes the place that calls it, for messages, as its last argument; device code never gives
// it.
using Where = std::source_location;

inline void __syncthreads(Where where = Where::current()) { ::cuda_on_cpu::block_barrier(0, where); }
inline int __syncthreads_count(int vote, Where where = Where::current()) {
  return ::cuda_on_cpu::block_barrier(vote, where);
}
inline int __syncthreads_or(int vote, Where where = Where::current()) {
  return ::cuda_on_cpu::block_barrier(vote, where) > 0;
}
inline int __syncthreads_and(int vote, Where where = Where::current()) {
  return ::cuda_on_cpu::block_barrier(vote == 0, where) == 0;
}

inline void __threadfence() { ::cuda_on_cpu::memory_fence(); }
inline void __threadfence_block() { ::cuda_on_cpu::memory_fence(); }
inline void __threadfence_system() { ::cuda_on_cpu::memory_fence(); }

#include "tests/cuda_on_cpu/include/atomics.h"
#include "tests/cuda_on_cpu/include/intrinsics.h"
#include "tests/cuda_on_cpu/include/warp_operations.h"
