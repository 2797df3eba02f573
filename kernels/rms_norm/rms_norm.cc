#include "kernels/rms_norm/rms_norm.h"

#include <algorithm>

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {
namespace {

void check_rows(const ArgumentCheck& check, const char* name, const ConstView& rows) {
  check.require(rows.rank() == 2 || rows.rank() == 3, "{} is {}, must have rank 2 or 3", name, rows);
  check.compute_dtype(name, rows);
  check.same_shape(name, rows, rows.dtype(), rows);
}

void check_rstd(const ArgumentCheck& check, const ConstView& rstd, const ConstView& rows) {
  if (rows.rank() == 2) {
    check.tensor("rstd", rstd, DType::kF32, {rows.size(0)});
  } else {
    check.tensor("rstd", rstd, DType::kF32, {rows.size(0), rows.size(1)});
  }
  check.require(rstd.is_contiguous(), "rstd must be contiguous");
}

}  // namespace

void rms_norm_forward(OpContext& ctx, const RmsNormForwardArgs& args) {
  const ArgumentCheck check("rms_norm_forward", ctx);
  check_rows(check, "x", args.x);
  const DType dtype = args.x.dtype();
  const bool has_delta = args.delta.rank() > 0;
  check.require(has_delta == (args.residual_out.rank() > 0),
                "residual_out must be given if and only if delta is");
  if (has_delta) {
    check.same_shape("delta", args.delta, dtype, args.x);
    check.same_shape("residual_out", args.residual_out, dtype, args.x);
  }
  check.tensor("weight", args.weight, dtype, {args.x.size(args.x.rank() - 1)});
  check.same_shape("y", args.y, dtype, args.x);
  check_rstd(check, args.rstd, args.x);
  op_table(ctx.stream.device()).rms_norm_forward(ctx, args);
}

void rms_norm_backward(OpContext& ctx, const RmsNormBackwardArgs& args) {
  const ArgumentCheck check("rms_norm_backward", ctx);
  check_rows(check, "dy", args.dy);
  const DType dtype = args.dy.dtype();
  const std::int64_t hidden = args.dy.size(args.dy.rank() - 1);
  if (args.dresidual.rank() > 0) check.same_shape("dresidual", args.dresidual, dtype, args.dy);
  check.same_shape("residual", args.residual, dtype, args.dy);
  check.tensor("weight", args.weight, dtype, {hidden});
  check_rstd(check, args.rstd, args.dy);
  check.same_shape("dx", args.dx, dtype, args.dy);
  check.tensor("dweight", args.dweight, DType::kF32, {hidden});
  check.workspace(args.workspace, rms_norm_backward_workspace(args.rstd.numel(), hidden));
  op_table(ctx.stream.device()).rms_norm_backward(ctx, args);
}

std::int64_t rms_norm_backward_workspace(std::int64_t rows, std::int64_t hidden_size) {
  return std::min(rows, kRmsNormMaxParts) * hidden_size * dtype_bytes(DType::kF32);
}

}  // namespace terroir
