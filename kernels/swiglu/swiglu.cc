#include "kernels/swiglu/swiglu.h"

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {

void swiglu_forward(OpContext& ctx, const SwigluForwardArgs& args) {
  const ArgumentCheck check("swiglu_forward", ctx);
  const DType dtype = args.gate.dtype();
  check.compute_dtype("gate", args.gate);
  check.tensor("gate", args.gate, dtype, {kAnySize, kAnySize});
  check.same_shape("up", args.up, dtype, args.gate);
  check.same_shape("out", args.out, dtype, args.gate);
  op_table(ctx.stream.device()).swiglu_forward(ctx, args);
}

void swiglu_backward(OpContext& ctx, const SwigluBackwardArgs& args) {
  const ArgumentCheck check("swiglu_backward", ctx);
  const DType dtype = args.gate.dtype();
  check.compute_dtype("gate", args.gate);
  check.tensor("gate", args.gate, dtype, {kAnySize, kAnySize});
  check.same_shape("up", args.up, dtype, args.gate);
  check.same_shape("dout", args.dout, dtype, args.gate);
  check.same_shape("dgate", args.dgate, dtype, args.gate);
  check.same_shape("dup", args.dup, dtype, args.gate);
  op_table(ctx.stream.device()).swiglu_backward(ctx, args);
}

}  // namespace terroir
