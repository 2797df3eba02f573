// The rotation of planes on vectors. Included like simd-inl.h.
#if defined(TERROIR_KERNELS_ROPE_ROTATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERROIR_KERNELS_ROPE_ROTATE_INL_H_
#undef TERROIR_KERNELS_ROPE_ROTATE_INL_H_
#else
#define TERROIR_KERNELS_ROPE_ROTATE_INL_H_
#endif

#include "kernels/tensor/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

// The planes (first, second) turned by the angles of these cosines and sines, or back by them.
template <bool kInverse>
HWY_INLINE void rotate(FloatVector cosine, FloatVector sine, FloatVector& first, FloatVector& second) {
  const auto x = first, y = second;
  if constexpr (kInverse) {
    first = hn::MulAdd(x, cosine, hn::Mul(y, sine));
    second = hn::NegMulAdd(x, sine, hn::Mul(y, cosine));
  } else {
    first = hn::NegMulAdd(y, sine, hn::Mul(x, cosine));
    second = hn::MulAdd(x, sine, hn::Mul(y, cosine));
  }
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
