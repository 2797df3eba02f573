// Squared L2 norm with detection of NaN and infinity: what gradient clipping and the check before the update
// read.
#pragma once

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

struct SquaredNormArgs {
  ConstView x;     // f32 [n], contiguous
  View out;        // f64 [1], added to: the sum of x^2; becomes non-finite if x has a NaN or an infinity
  View nonfinite;  // i32 [1], set to 1 if x has a NaN or an infinity, else left as it is
};
// Squares and sums in f64, where no finite f32 overflows. x is cut into at most 64 pieces, a function of n
// only, whose sums are added in order: the number of threads changes no bit. Wrong shapes, dtypes or devices
// throw ContractError before anything is written.
void squared_norm(OpContext& ctx, const SquaredNormArgs& args);

namespace cpu {
void squared_norm(OpContext& ctx, const SquaredNormArgs& args);
}  // namespace cpu

}  // namespace terroir
