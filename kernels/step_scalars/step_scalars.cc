#include "kernels/step_scalars/step_scalars.h"

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {

void step_scalars(OpContext& ctx, const StepScalarsArgs& args) {
  const ArgumentCheck check("step_scalars", ctx);
  check.tensor("totals", args.totals, DType::kF64, {kAnySize});
  check.require(args.num_sources > 0 && args.totals.size(0) >= 3 * args.num_sources + 1,
                "totals is {} for {} sources", args.totals, args.num_sources);
  check.tensor("rates", args.rates, DType::kF32, {3});
  check.tensor("rounding_seed", args.rounding_seed, DType::kI32, {1});
  check.tensor("grad_norm", args.grad_norm, DType::kF64, {1});
  check.require(args.scalars != nullptr, "scalars must be given");
  op_table(ctx.stream.device()).step_scalars(ctx, args);
}

}  // namespace terroir
