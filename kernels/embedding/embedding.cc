#include "kernels/embedding/embedding.h"

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {

void embedding_forward(OpContext& ctx, const EmbeddingForwardArgs& args) {
  const ArgumentCheck check("embedding_forward", ctx);
  check.tensor("ids", args.ids, DType::kI32, {kAnySize});
  check.tensor("table", args.table, DType::kF32, {kAnySize, kAnySize});
  check.tensor("out", args.out, DType::kF32, {args.ids.size(0), args.table.size(1)});
  op_table(ctx.stream.device()).embedding_forward(ctx, args);
}

void embedding_backward(OpContext& ctx, const EmbeddingBackwardArgs& args) {
  const ArgumentCheck check("embedding_backward", ctx);
  check.tensor("ids", args.ids, DType::kI32, {kAnySize});
  check.tensor("dtable", args.dtable, DType::kF32, {kAnySize, kAnySize});
  check.tensor("dout", args.dout, DType::kF32, {args.ids.size(0), args.dtable.size(1)});
  op_table(ctx.stream.device()).embedding_backward(ctx, args);
}

}  // namespace terroir
