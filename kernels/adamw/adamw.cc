#include "kernels/adamw/adamw.h"

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {

namespace {

void check_arguments(const OpContext& ctx, const AdamWArgs& args) {
  const ArgumentCheck check("adamw", ctx);
  check.compute_dtype("params", args.params);
  check.tensor("params", args.params, args.params.dtype(), {kAnySize});
  check.compute_dtype("grads", args.grads);
  check.same_shape("grads", args.grads, args.grads.dtype(), args.params);
  check.same_shape("exp_avg", args.exp_avg, DType::kF32, args.params);
  check.same_shape("exp_avg_sq", args.exp_avg_sq, DType::kF32, args.params);
  if (args.params_bf16.rank() > 0)
    check.same_shape("params_bf16", args.params_bf16, DType::kBF16, args.params);
  check.require(!args.params_bf16 || args.params.dtype() == DType::kF32,
                "params_bf16 beside params that are {}", args.params);
  check.require(args.scalars != nullptr, "scalars must be given");
}

}  // namespace

void adamw(OpContext& ctx, const AdamWArgs& args) { adamw(ctx, std::span(&args, 1)); }

void adamw(OpContext& ctx, std::span<const AdamWArgs> list) {
  for (const AdamWArgs& args : list) check_arguments(ctx, args);
  op_table(ctx.stream.device()).adamw(ctx, list);
}

}  // namespace terroir
