#include "kernels/linear_cross_entropy/linear_cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {

void linear_cross_entropy(OpContext& ctx, const LinearCrossEntropyArgs& args) {
  const ArgumentCheck check("linear_cross_entropy", ctx);
  check.tensor("x", args.x, DType::kF32, {kAnySize, kAnySize});
  const std::int64_t num_tokens = args.x.size(0), hidden_size = args.x.size(1);
  check.tensor("w", args.w, DType::kF32, {kAnySize, hidden_size});
  const std::int64_t vocab_size = args.w.size(0);
  check.tensor("targets", args.targets, DType::kI32, {num_tokens});
  check.tensor("loss", args.loss, DType::kF32, {num_tokens});
  check.require(vocab_size >= 1, "w is {}: no vocabulary", args.w);
  check.require(args.chunk_tokens >= 1, "chunks of {} tokens", args.chunk_tokens);
  check.require(args.vocab_begin >= 0, "a vocabulary that begins at {}", args.vocab_begin);
  check.require(static_cast<bool>(args.dx) == static_cast<bool>(args.dw), "dx and dw: both or neither");
  if (args.dx) {
    check.same_shape("dx", args.dx, DType::kF32, args.x);
    check.same_shape("dw", args.dw, DType::kF32, args.w);
  }
  check.workspace(args.workspace, linear_cross_entropy_workspace_bytes(
                                      std::min(args.chunk_tokens, num_tokens), vocab_size, hidden_size));
  op_table(ctx.stream.device()).linear_cross_entropy(ctx, args);
}

void merge_vocab_statistics(OpContext& ctx, const ConstView& gathered, const View& merged) {
  const ArgumentCheck check("merge_vocab_statistics", ctx);
  check.tensor("merged", merged, DType::kF32, {3, kAnySize});
  check.tensor("gathered", gathered, DType::kF32, {kAnySize, 3, merged.size(1)});
  check.require(gathered.is_contiguous() && merged.is_contiguous(), "statistics must be contiguous");
  op_table(ctx.stream.device()).merge_vocab_statistics(ctx, {gathered, merged});
}

}  // namespace terroir
