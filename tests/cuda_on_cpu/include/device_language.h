// The device side of the language: qualifiers, coordinates, barriers, warp operations, atomics, intrinsics.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

#include "tests/cuda_on_cpu/emulator.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __shared__ thread_local
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

#define threadIdx (::cuda_on_cpu::coordinates.thread)
#define blockIdx (::cuda_on_cpu::coordinates.block)
#define blockDim (::cuda_on_cpu::coordinates.block_size)
#define gridDim (::cuda_on_cpu::coordinates.grid_size)
inline constexpr int warpSize = 32;

// Of code that reads what lanes exchanged: the exchange orders no memory, and is none of ThreadSanitizer's
// business.
#define TERROIR_UNSEEN __attribute__((no_sanitize("thread")))

using Where = std::source_location;

inline void __syncthreads(Where where = Where::current()) { ::cuda_on_cpu::block_barrier(where); }
inline int __syncthreads_count(int vote, Where where = Where::current()) {
  return ::cuda_on_cpu::block_barrier_count(vote, where);
}
inline int __syncthreads_or(int vote, Where where = Where::current()) {
  return ::cuda_on_cpu::block_barrier_count(vote, where) > 0;
}
inline int __syncthreads_and(int vote, Where where = Where::current()) {
  return ::cuda_on_cpu::block_barrier_count(vote == 0, where) == 0;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFU, Where where = Where::current()) {
  ::cuda_on_cpu::warp_barrier(mask & ::cuda_on_cpu::warp_mask(), where);
}

namespace cuda_on_cpu {
// The value of lane `source`, clamped to this lane's own where it lies outside its segment of `width` lanes.
template <class T>
TERROIR_UNSEEN T shuffle(unsigned mask, T value, int source, bool inside, const Where& where) {
  const WarpValues& all = warp_exchange(mask, &value, sizeof(T), where);
  T result;
  std::memcpy(&result, all.bytes[inside ? source : lane()], sizeof(T));
  return result;
}
}  // namespace cuda_on_cpu

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, Where where = Where::current()) {
  const int begin = ::cuda_on_cpu::lane() / width * width;
  return ::cuda_on_cpu::shuffle(mask, value, begin + (source & (width - 1)), true, where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, Where where = Where::current()) {
  const int lane = ::cuda_on_cpu::lane(), source = lane ^ bits;
  return ::cuda_on_cpu::shuffle(mask, value, source, source / width <= lane / width, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, Where where = Where::current()) {
  const int lane = ::cuda_on_cpu::lane(), source = lane + static_cast<int>(delta);
  return ::cuda_on_cpu::shuffle(mask, value, source, source / width == lane / width, where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, Where where = Where::current()) {
  const int lane = ::cuda_on_cpu::lane(), source = lane - static_cast<int>(delta);
  return ::cuda_on_cpu::shuffle(mask, value, source, source >= lane / width * width, where);
}
TERROIR_UNSEEN inline unsigned __ballot_sync(unsigned mask, int vote, Where where = Where::current()) {
  const auto& all = ::cuda_on_cpu::warp_exchange(mask, &vote, sizeof(vote), where);
  unsigned result = 0;
  for (int lane = 0; lane < 32; ++lane) {
    int of_lane;
    std::memcpy(&of_lane, all.bytes[lane], sizeof(of_lane));
    if ((mask & (1U << lane)) != 0 && of_lane != 0) result |= 1U << lane;
  }
  return result;
}
inline int __any_sync(unsigned mask, int vote, Where where = Where::current()) {
  return __ballot_sync(mask, vote, where) != 0;
}
inline int __all_sync(unsigned mask, int vote, Where where = Where::current()) {
  return __ballot_sync(mask, vote, where) == mask;
}
inline unsigned __activemask() { return ::cuda_on_cpu::active_mask(); }

inline void __threadfence() {}
inline void __threadfence_block() {}

namespace cuda_on_cpu {
template <class T, class Update>
T atomic_update(T* address, Update update) {
  T before, after;
  __atomic_load(address, &before, __ATOMIC_RELAXED);
  do {
    after = update(before);
  } while (!__atomic_compare_exchange(address, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return before;
}
}  // namespace cuda_on_cpu
template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return ::cuda_on_cpu::atomic_update(address, [&](T old) { return static_cast<T>(old + value); });
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return ::cuda_on_cpu::atomic_update(address, [&](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return ::cuda_on_cpu::atomic_update(address, [&](T old) { return value < old ? value : old; });
}
template <class T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return ::cuda_on_cpu::atomic_update(address, [&](T old) { return old | value; });
}
template <class T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return ::cuda_on_cpu::atomic_update(address, [&](T) { return value; });
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return ::cuda_on_cpu::atomic_update(address, [&](T old) { return old == expected ? value : old; });
}

template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
T __ldcg(const T* address) {
  return *address;
}
template <class T>
void __stcs(T* address, T value) {
  *address = value;
}
template <class T>
void __stcg(T* address, T value) {
  *address = value;
}

// glibc declares __expf and __logf, which exist in no library.
#define __expf(x) std::exp(static_cast<float>(x))
#define __logf(x) std::log(static_cast<float>(x))
#define __log2f(x) std::log2(static_cast<float>(x))
inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __frcp_rn(float a) { return 1.0F / a; }
inline float __fmaf_rn(float a, float b, float c) { return std::fmaf(a, b, c); }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline float __saturatef(float x) { return std::fmin(std::fmax(x, 0.0F), 1.0F); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
namespace cuda_on_cpu {
template <class To, class From>
To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}
}  // namespace cuda_on_cpu
inline unsigned __float_as_uint(float x) { return ::cuda_on_cpu::same_bits<unsigned>(x); }
inline int __float_as_int(float x) { return ::cuda_on_cpu::same_bits<int>(x); }
inline float __uint_as_float(unsigned x) { return ::cuda_on_cpu::same_bits<float>(x); }
inline float __int_as_float(int x) { return ::cuda_on_cpu::same_bits<float>(x); }

// CUDA's are in the global namespace, of mixed types.
template <class A, class B>
requires(std::is_arithmetic_v<A>&& std::is_arithmetic_v<B>) constexpr std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}
template <class A, class B>
requires(std::is_arithmetic_v<A>&& std::is_arithmetic_v<B>) constexpr std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}
