#include "kernels/adamw/adamw.h"

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {

void adamw(OpContext& ctx, const AdamWArgs& args) {
  const ArgumentCheck check("adamw", ctx);
  check.tensor("params", args.params, DType::kF32, {kAnySize});
  check.same_shape("grads", args.grads, DType::kF32, args.params);
  check.same_shape("exp_avg", args.exp_avg, DType::kF32, args.params);
  check.same_shape("exp_avg_sq", args.exp_avg_sq, DType::kF32, args.params);
  if (args.params_bf16.rank() > 0)
    check.same_shape("params_bf16", args.params_bf16, DType::kBF16, args.params);
  check.require(args.scalars != nullptr, "scalars must be given");
  op_table(ctx.stream.device()).adamw(ctx, args);
}

}  // namespace terroir
