// What the Highway kernels share. Included once per instruction set by files that include
// hwy/foreach_target.h first; functions inside HWY_NAMESPACE are compiled for each of them, and
// HWY_DYNAMIC_DISPATCH picks one at run time.
//
// The last vector of a row goes through a small buffer instead of a scalar loop: every element is computed by
// the same instructions wherever a row or a thread's range ends, so results do not depend on the number of
// threads.
#if defined(TERROIR_KERNELS_TENSOR_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERROIR_KERNELS_TENSOR_SIMD_INL_H_
#undef TERROIR_KERNELS_TENSOR_SIMD_INL_H_
#else
#define TERROIR_KERNELS_TENSOR_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#include "kernels/tensor/view.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVector = hn::Vec<FloatTag>;
using BitsTag = hn::RebindToUnsigned<FloatTag>;
using Bf16BitsTag = hn::Rebind<std::uint16_t, FloatTag>;

// Rounds to bfloat16, to nearest even; a NaN stays a (quiet) NaN with its sign. Only the lower 16 bits are
// set.
HWY_INLINE hn::Vec<BitsTag> bf16_bits(FloatVector value) {
  const BitsTag d;
  const auto bits = hn::BitCast(d, value);
  const auto upper = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(upper, hn::Set(d, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(d, 0x7FFF))));
  const auto quiet = hn::Or(upper, hn::Set(d, 0x40));
  return hn::IfThenElse(hn::RebindMask(d, hn::IsNaN(value)), quiet, rounded);
}

HWY_INLINE hn::Vec<Bf16BitsTag> to_bf16(FloatVector value) {
  const hn::RebindToSigned<BitsTag>
      di;  // below 65536: the signed demotion, which every target has, keeps them
  return hn::DemoteTo(Bf16BitsTag(), hn::BitCast(di, bf16_bits(value)));
}

HWY_INLINE FloatVector from_bf16(hn::Vec<Bf16BitsTag> bits) {
  return hn::BitCast(FloatTag(), hn::ShiftLeft<16>(hn::PromoteTo(BitsTag(), bits)));
}

// A whole vector at `index` of each row it is asked for.
struct WholeVector {
  std::int64_t index;

  template <class D>
  HWY_INLINE hn::Vec<D> load_as(D d, const hn::TFromD<D>* row) const {
    return hn::LoadU(d, row + index);
  }
  template <class D>
  HWY_INLINE void store_as(D d, hn::Vec<D> value, hn::TFromD<D>* row) const {
    hn::StoreU(value, d, row + index);
  }
};

// The last `count` elements of a row, less than a vector. Lanes beyond them read as zero and are not written.
struct PartialVector {
  std::int64_t index;
  std::size_t count;

  template <class D>
  HWY_INLINE hn::Vec<D> load_as(D d, const hn::TFromD<D>* row) const {
    HWY_ALIGN hn::TFromD<D> lanes[hn::MaxLanes(D())] = {};
    std::memcpy(lanes, row + index, count * sizeof(lanes[0]));
    return hn::Load(d, lanes);
  }
  template <class D>
  HWY_INLINE void store_as(D d, hn::Vec<D> value, hn::TFromD<D>* row) const {
    HWY_ALIGN hn::TFromD<D> lanes[hn::MaxLanes(D())];
    hn::Store(value, d, lanes);
    std::memcpy(row + index, lanes, count * sizeof(lanes[0]));
  }
};

template <class Position>
HWY_INLINE FloatVector load(Position at, const float* row) {
  return at.load_as(FloatTag(), row);
}
template <class Position>
HWY_INLINE FloatVector load(Position at, const BFloat16* row) {
  return from_bf16(at.load_as(Bf16BitsTag(), reinterpret_cast<const std::uint16_t*>(row)));
}
template <class Position>
HWY_INLINE void store(Position at, FloatVector value, float* row) {
  at.store_as(FloatTag(), value, row);
}
template <class Position>
HWY_INLINE void store(Position at, FloatVector value, BFloat16* row) {
  at.store_as(Bf16BitsTag(), to_bf16(value), reinterpret_cast<std::uint16_t*>(row));
}

// Calls body(position) for the vectors that cover elements [0, n) of a row, the last one perhaps partial.
template <class Body>
HWY_INLINE void for_each_vector(std::int64_t n, Body&& body) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(FloatTag()));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(WholeVector{i});
  if (i < n) body(PartialVector{i, static_cast<std::size_t>(n - i)});
}

HWY_INLINE float sum_of_lanes(FloatVector value) { return hn::GetLane(hn::SumOfLanes(FloatTag(), value)); }

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
