#include "kernels/embedding/embedding.h"

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {

void embedding_forward(OpContext& ctx, const EmbeddingForwardArgs& args) {
  const ArgumentCheck check("embedding_forward", ctx);
  const DType dtype = args.table.dtype();
  check.compute_dtype("table", args.table);
  check.tensor("ids", args.ids, DType::kI32, {kAnySize});
  check.tensor("table", args.table, dtype, {kAnySize, kAnySize});
  check.tensor("out", args.out, dtype, {args.ids.size(0), args.table.size(1)});
  op_table(ctx.stream.device()).embedding_forward(ctx, args);
}

void embedding_backward(OpContext& ctx, const EmbeddingBackwardArgs& args) {
  const ArgumentCheck check("embedding_backward", ctx);
  check.compute_dtype("dout", args.dout);
  check.tensor("ids", args.ids, DType::kI32, {kAnySize});
  check.tensor("dtable", args.dtable, DType::kF32, {kAnySize, kAnySize});
  check.tensor("dout", args.dout, args.dout.dtype(), {args.ids.size(0), args.dtable.size(1)});
  check.require(args.ids.size(0) <= 1 << 30, "ids is {}: too many tokens for one call", args.ids);
  op_table(ctx.stream.device()).embedding_backward(ctx, args);
}

}  // namespace terroir
