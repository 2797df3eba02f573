// 2^x on vectors, for the softmax of attention and loss. Included like simd-inl.h.
#if defined(TERROIR_KERNELS_TENSOR_EXP2_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERROIR_KERNELS_TENSOR_EXP2_INL_H_
#undef TERROIR_KERNELS_TENSOR_EXP2_INL_H_
#else
#define TERROIR_KERNELS_TENSOR_EXP2_INL_H_
#endif

#include "kernels/tensor/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

// 2^x for x < 127, within 1.3e-7 of the exact value; 0 for x < -125, -inf included; NaN for NaN. Splits x
// into an integer, which goes into the exponent's bits, and a rest in [-1/2, 1/2], for which a polynomial
// stands (Remez-fitted to relative error 2e-9; its constant 1 makes 2^0 exact).
HWY_INLINE FloatVector exp2(FloatVector x) {
  const FloatTag d;
  const auto whole = hn::NearestInt(x);
  const auto rest = hn::Sub(x, hn::ConvertTo(d, whole));
  auto y = hn::Set(d, 0x1.41fbbcp-13F);
  y = hn::MulAdd(y, rest, hn::Set(d, 0x1.5f3e54p-10F));
  y = hn::MulAdd(y, rest, hn::Set(d, 0x1.3b2d4cp-7F));
  y = hn::MulAdd(y, rest, hn::Set(d, 0x1.c6aee8p-5F));
  y = hn::MulAdd(y, rest, hn::Set(d, 0x1.ebfbdcp-3F));
  y = hn::MulAdd(y, rest, hn::Set(d, 0x1.62e430p-1F));
  y = hn::MulAdd(y, rest, hn::Set(d, 1.0F));
  const hn::RebindToSigned<FloatTag> di;
  const auto scaled = hn::BitCast(d, hn::Add(hn::BitCast(di, y), hn::ShiftLeft<23>(whole)));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -125.0F)), hn::IfThenElse(hn::IsNaN(x), x, scaled));
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
