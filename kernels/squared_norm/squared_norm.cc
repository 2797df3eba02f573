#include "kernels/squared_norm/squared_norm.h"

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {

std::int64_t squared_norm_workspace(Device device) {
  return device.kind == DeviceKind::kCuda ? cuda::kSquaredNormPartials * 8 : 0;
}

void squared_norm(OpContext& ctx, const SquaredNormArgs& args) {
  const ArgumentCheck check("squared_norm", ctx);
  for (const ConstView& x : args.x) {
    check.compute_dtype("x", x);
    check.tensor("x", x, x.dtype(), {kAnySize});
  }
  check.tensor("out", args.out, DType::kF64, {1});
  if (args.nonfinite) check.tensor("nonfinite", args.nonfinite, DType::kI32, {1});
  check.workspace(args.workspace, squared_norm_workspace(ctx.stream.device()));
  op_table(ctx.stream.device()).squared_norm(ctx, args);
}

}  // namespace terroir
