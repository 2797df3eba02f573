#include "kernels/swiglu/swiglu.h"

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {

void swiglu_forward(OpContext& ctx, const SwigluForwardArgs& args) {
  const ArgumentCheck check("swiglu_forward", ctx);
  check.tensor("gate", args.gate, DType::kF32, {kAnySize, kAnySize});
  check.same_shape("up", args.up, DType::kF32, args.gate);
  check.same_shape("out", args.out, DType::kF32, args.gate);
  op_table(ctx.stream.device()).swiglu_forward(ctx, args);
}

void swiglu_backward(OpContext& ctx, const SwigluBackwardArgs& args) {
  const ArgumentCheck check("swiglu_backward", ctx);
  check.tensor("gate", args.gate, DType::kF32, {kAnySize, kAnySize});
  check.same_shape("up", args.up, DType::kF32, args.gate);
  check.same_shape("dout", args.dout, DType::kF32, args.gate);
  check.same_shape("dgate", args.dgate, DType::kF32, args.gate);
  check.same_shape("dup", args.dup, DType::kF32, args.gate);
  op_table(ctx.stream.device()).swiglu_backward(ctx, args);
}

}  // namespace terroir
