// Shuffles, votes and reductions of a warp.
#pragma once

#include "tests/cuda_on_cpu/include/device_language.h"

inline void __syncwarp(unsigned mask = 0xFFFFFFFFU, Where where = Where::current()) {
  ::cuda_on_cpu::warp_barrier(mask, where);
}

namespace cuda_on_cpu {
// The value of lane `source`, or this lane's own where that is not inside its segment.
template <class T>
T shuffle(unsigned mask, T value, int source, bool inside, const Where& where) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA shuffles 4 or 8 bytes");
  T result;
  warp_shuffle(mask, &value, &result, sizeof(T), inside ? source : lane(), where);
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

inline unsigned __ballot_sync(unsigned mask, int vote, Where where = Where::current()) {
  return ::cuda_on_cpu::warp_ballot(mask, vote != 0, where);
}
inline int __any_sync(unsigned mask, int vote, Where where = Where::current()) {
  return ::cuda_on_cpu::warp_ballot(mask, vote != 0, where) != 0;
}
inline int __all_sync(unsigned mask, int vote, Where where = Where::current()) {
  return ::cuda_on_cpu::warp_ballot(mask, vote != 0, where) == mask;
}
// The lanes that have not ended; a GPU may say fewer.
inline unsigned __activemask() { return ::cuda_on_cpu::active_mask(); }

namespace cuda_on_cpu {
template <class T, class Combine>
T reduce(unsigned mask, T value, Combine combine, const Where& where) {
  static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned>, "CUDA reduces int and unsigned");
  T all[kWarpSize] = {};
  warp_gather(mask, &value, all, sizeof(T), where);
  bool first = true;
  T result{};
  for (int i = 0; i < kWarpSize; ++i) {
    if ((mask >> i & 1U) == 0) continue;
    result = first ? all[i] : combine(result, all[i]);
    first = false;
  }
  return result;
}
}  // namespace cuda_on_cpu

template <class T>
T __reduce_add_sync(unsigned mask, T value, Where where = Where::current()) {
  const auto add = [](T a, T b) {
    return static_cast<T>(static_cast<unsigned>(a) + static_cast<unsigned>(b));
  };
  return ::cuda_on_cpu::reduce(mask, value, add, where);
}
template <class T>
T __reduce_max_sync(unsigned mask, T value, Where where = Where::current()) {
  return ::cuda_on_cpu::reduce(
      mask, value, [](T a, T b) { return a < b ? b : a; }, where);
}
template <class T>
T __reduce_min_sync(unsigned mask, T value, Where where = Where::current()) {
  return ::cuda_on_cpu::reduce(
      mask, value, [](T a, T b) { return b < a ? b : a; }, where);
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value, Where where = Where::current()) {
  return ::cuda_on_cpu::reduce(
      mask, value, [](unsigned a, unsigned b) { return a & b; }, where);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value, Where where = Where::current()) {
  return ::cuda_on_cpu::reduce(
      mask, value, [](unsigned a, unsigned b) { return a | b; }, where);
}
