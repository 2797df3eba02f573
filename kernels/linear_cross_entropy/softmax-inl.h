// Largest element and sum of exponentials of a row, f32 or bf16. Included like kernels/tensor/simd-inl.h.
#if defined(TERROIR_KERNELS_LINEAR_CROSS_ENTROPY_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERROIR_KERNELS_LINEAR_CROSS_ENTROPY_SOFTMAX_INL_H_
#undef TERROIR_KERNELS_LINEAR_CROSS_ENTROPY_SOFTMAX_INL_H_
#else
#define TERROIR_KERNELS_LINEAR_CROSS_ENTROPY_SOFTMAX_INL_H_
#endif

#include <limits>

#include "kernels/tensor/exp2-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

constexpr float kLog2E = 1.44269504F;

// `value` where `at` covers elements of the row, otherwise `filler`.
HWY_INLINE FloatVector fill_beyond(WholeVector, FloatVector value, float) { return value; }
HWY_INLINE FloatVector fill_beyond(PartialVector at, FloatVector value, float filler) {
  const FloatTag d;
  return hn::IfThenElse(hn::FirstN(d, at.count), value, hn::Set(d, filler));
}

template <class T>
HWY_INLINE float largest_of(const T* row, std::int64_t n) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const FloatTag d;
  auto max = hn::Set(d, kLowest);
  for_each_vector(n, [&](auto at) HWY_ATTR { max = hn::Max(max, fill_beyond(at, load(at, row), kLowest)); });
  return hn::GetLane(hn::MaxOfLanes(d, max));
}

// Returns sum exp(row[i] - max); if kStore, row[i] becomes exp(row[i] - max).
template <bool kStore, class T>
HWY_INLINE float exponentials(T* row, std::int64_t n, float max) {
  const FloatTag d;
  const auto base = hn::Set(d, max), log2_e = hn::Set(d, kLog2E);
  auto sum = hn::Zero(d);
  for_each_vector(n, [&](auto at) HWY_ATTR {
    const auto value = fill_beyond(at, exp2(hn::Mul(hn::Sub(load(at, row), base), log2_e)), 0);
    sum = hn::Add(sum, value);
    if constexpr (kStore) store(at, value, row);
  });
  return sum_of_lanes(sum);
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
