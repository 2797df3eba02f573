// Atomics return the value before. As on a GPU they order nothing else.
#pragma once

#include <type_traits>

namespace cuda_on_cpu {

template <class T>
constexpr bool kIsAtomicInteger =
    std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, unsigned long long>;
template <class T>
constexpr bool kIsAtomicAddend = kIsAtomicInteger<T> || std::is_same_v<T, float> || std::is_same_v<T, double>;

template <class T, class Update>
T atomic_update(T* address, Update update) {
  T before, after;
  __atomic_load(address, &before, __ATOMIC_RELAXED);
  do {
    after = update(before);
  } while (!__atomic_compare_exchange(address, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return before;
}

// Integers wrap.
template <class T>
T wrapping_sum(T a, T b) {
  if constexpr (std::is_same_v<T, int>)
    return static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b));
  else
    return a + b;
}

}  // namespace cuda_on_cpu

template <class T>
requires ::cuda_on_cpu::kIsAtomicAddend<T> T atomicAdd(T* address, std::type_identity_t<T> value) {
  return ::cuda_on_cpu::atomic_update(address,
                                      [&](T old) { return ::cuda_on_cpu::wrapping_sum(old, value); });
}
template <class T>
requires ::cuda_on_cpu::kIsAtomicInteger<T> T atomicMax(T* address, std::type_identity_t<T> value) {
  return ::cuda_on_cpu::atomic_update(address, [&](T old) { return old < value ? value : old; });
}
template <class T>
requires ::cuda_on_cpu::kIsAtomicInteger<T> T atomicMin(T* address, std::type_identity_t<T> value) {
  return ::cuda_on_cpu::atomic_update(address, [&](T old) { return value < old ? value : old; });
}
template <class T>
requires ::cuda_on_cpu::kIsAtomicInteger<T> T atomicAnd(T* address, std::type_identity_t<T> value) {
  return ::cuda_on_cpu::atomic_update(address, [&](T old) { return old & value; });
}
template <class T>
requires ::cuda_on_cpu::kIsAtomicInteger<T> T atomicOr(T* address, std::type_identity_t<T> value) {
  return ::cuda_on_cpu::atomic_update(address, [&](T old) { return old | value; });
}
// 0, 1, ..., last, 0, ...
inline unsigned atomicInc(unsigned* address, unsigned last) {
  return ::cuda_on_cpu::atomic_update(address, [&](unsigned old) { return old >= last ? 0 : old + 1; });
}
template <class T>
requires(::cuda_on_cpu::kIsAtomicInteger<T> || std::is_same_v<T, float>) T
    atomicExch(T* address, std::type_identity_t<T> value) {
  return ::cuda_on_cpu::atomic_update(address, [&](T) { return value; });
}
template <class T>
requires ::cuda_on_cpu::kIsAtomicInteger<T> T atomicCAS(T* address, std::type_identity_t<T> expected,
                                                        std::type_identity_t<T> value) {
  return ::cuda_on_cpu::atomic_update(address, [&](T old) { return old == expected ? value : old; });
}
