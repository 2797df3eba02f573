// Squared L2 norm with detection of NaN and infinity: what gradient clipping and the check before the update
// read.
#pragma once

#include <span>

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

struct SquaredNormArgs {
  std::span<const ConstView> x;  // each f32 or bf16 [n], contiguous
  View out;        // f64 [1], added to: the sum of all x^2; becomes non-finite if x has a NaN or an infinity
  View nonfinite;  // i32 [1], optional: set to 1 if x has a NaN or an infinity, else left as it is
  View workspace;  // u8 [squared_norm_workspace(...)]; its contents do not matter
};
// Squares and sums in f64, where no finite f32 overflows. The order of additions is a function of the sizes
// alone: neither the number of threads nor the order in which a GPU runs its blocks changes a bit. On the CPU
// each tensor's sum is added to `out` by itself. Wrong shapes, dtypes or devices throw ContractError before
// anything is written.
void squared_norm(OpContext& ctx, const SquaredNormArgs& args);

std::int64_t squared_norm_workspace(Device device);

namespace cpu {
void squared_norm(OpContext& ctx, const SquaredNormArgs& args);
}  // namespace cpu
namespace cuda {
constexpr std::int64_t kSquaredNormPartials = 4096;  // as many f64 as workspace
void squared_norm(OpContext& ctx, const SquaredNormArgs& args);
}  // namespace cuda

}  // namespace terroir
