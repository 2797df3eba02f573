#include "kernels/squared_norm/squared_norm.h"

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {

void squared_norm(OpContext& ctx, const SquaredNormArgs& args) {
  const ArgumentCheck check("squared_norm", ctx);
  check.tensor("x", args.x, DType::kF32, {kAnySize});
  check.tensor("out", args.out, DType::kF64, {1});
  check.tensor("nonfinite", args.nonfinite, DType::kI32, {1});
  op_table(ctx.stream.device()).squared_norm(ctx, args);
}

}  // namespace terroir
