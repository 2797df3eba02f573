// Deterministic test data: every rank can compute every other rank's contribution.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/tensor/view.h"

namespace terroir::test {

// Uniform in [-1, 1) times a power of two from 2^-8 to 2^7: sums depend on their order.
inline double rank_value(int rank, std::int64_t index, int salt) {
  std::uint64_t x = (static_cast<std::uint64_t>(rank) << 48) ^ (static_cast<std::uint64_t>(salt) << 40) ^
                    static_cast<std::uint64_t>(index);
  x = (x + 0x9e3779b97f4a7c15ULL) * 0xbf58476d1ce4e5b9ULL;  // splitmix64
  x = (x ^ (x >> 30)) * 0x94d049bb133111ebULL;
  x ^= x >> 31;
  const double mantissa = static_cast<double>(x >> 11) * 0x1p-52 - 1.0;
  return std::ldexp(mantissa, static_cast<int>(x % 16) - 8);
}

template <class T>
T to_element(double value) {
  return static_cast<T>(value);
}
template <>
inline BFloat16 to_element<BFloat16>(double value) {
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  return {static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
template <>
inline std::int32_t to_element<std::int32_t>(double value) {
  return static_cast<std::int32_t>(value * 1000);
}
template <>
inline std::int64_t to_element<std::int64_t>(double value) {
  return static_cast<std::int64_t>(value * 1e12);
}
template <>
inline std::uint8_t to_element<std::uint8_t>(double value) {
  return static_cast<std::uint8_t>(static_cast<std::int64_t>(value * 1000));
}

inline bool same(BFloat16 a, BFloat16 b) { return a.bits == b.bits; }
template <class T>
bool same(T a, T b) {
  return a == b;
}

// What reductions accumulate in.
template <class T>
struct Accumulator {
  using type = T;
  static type load(T value) { return value; }
};
template <>
struct Accumulator<BFloat16> {
  using type = float;
  static float load(BFloat16 value) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
  }
};

template <class T>
std::vector<T> rank_values(int rank, std::int64_t n, int salt = 0) {
  std::vector<T> values(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) values[i] = to_element<T>(rank_value(rank, i, salt));
  return values;
}

// The sum over ranks in rank order, rounded once.
template <class T>
std::vector<T> sum_of_ranks(int num_ranks, std::int64_t n, int salt = 0) {
  std::vector<T> sums(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    auto sum = Accumulator<T>::load(to_element<T>(rank_value(0, i, salt)));
    for (int rank = 1; rank < num_ranks; ++rank)
      sum += Accumulator<T>::load(to_element<T>(rank_value(rank, i, salt)));
    if constexpr (std::is_same_v<T, BFloat16>)
      sums[i] = to_element<T>(static_cast<double>(sum));
    else
      sums[i] = sum;
  }
  return sums;
}

template <class T>
std::int64_t count_differences(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return -1;
  std::int64_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += !same(a[i], b[i]);
  return count;
}

template <class T>
View view_of(std::vector<T>& values) {
  return View(values.data(), dtype_of<T>(), {static_cast<std::int64_t>(values.size())});
}

}  // namespace terroir::test
