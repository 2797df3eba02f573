#include "kernels/qk_norm_rope/qk_norm_rope.h"

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {
namespace {

// What forward and backward have in common; `name` is x or dx.
template <class Args>
void check_heads(const ArgumentCheck& check, const Args& args, const char* name, const ConstView& x) {
  check.compute_dtype(name, x);
  check.tensor(name, x, x.dtype(), {kAnySize, kAnySize, kAnySize});
  const std::int64_t tokens = x.size(0), heads = x.size(1), head_dim = x.size(2);
  check.require(head_dim % 2 == 0, "{} is {}, its last dimension must be even", name, x);
  check.require(args.query_heads >= 0 && args.query_heads <= heads, "{} query heads of {}", args.query_heads,
                heads);
  check.tensor("q_weight", args.q_weight, x.dtype(), {head_dim});
  check.tensor("k_weight", args.k_weight, x.dtype(), {head_dim});
  check.tensor("positions", args.positions, DType::kI32, {tokens});
  check.tensor("table", args.table, DType::kF32, {kAnySize, head_dim});
  check.tensor("rstd", args.rstd, DType::kF32, {tokens, heads});
  check.require(args.rstd.is_contiguous(), "rstd must be contiguous");
}

}  // namespace

void qk_norm_rope_forward(OpContext& ctx, const QkNormRopeForwardArgs& args) {
  const ArgumentCheck check("qk_norm_rope_forward", ctx);
  check_heads(check, args, "x", args.x);
  if (args.before.rank() > 0) check.same_shape("before", args.before, args.x.dtype(), args.x);
  op_table(ctx.stream.device()).qk_norm_rope_forward(ctx, args);
}

void qk_norm_rope_backward(OpContext& ctx, const QkNormRopeBackwardArgs& args) {
  const ArgumentCheck check("qk_norm_rope_backward", ctx);
  check_heads(check, args, "dx", args.dx);
  const std::int64_t head_dim = args.dx.size(2);
  check.same_shape("before", args.before, args.dx.dtype(), args.dx);
  check.tensor("dq_weight", args.dq_weight, DType::kF32, {head_dim});
  check.tensor("dk_weight", args.dk_weight, DType::kF32, {head_dim});
  check.workspace(args.workspace, qk_norm_rope_backward_workspace(head_dim));
  op_table(ctx.stream.device()).qk_norm_rope_backward(ctx, args);
}

std::int64_t qk_norm_rope_backward_workspace(std::int64_t head_dim) {
  return kQkNormRopeMaxParts * head_dim * dtype_bytes(DType::kF32);
}

}  // namespace terroir
