#include "kernels/tensor/elementwise.h"

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {

void copy(OpContext& ctx, const ConstView& from, const View& to) {
  const ArgumentCheck check("copy", ctx);
  check.same_shape("from", from, from.dtype(), from);
  check.same_shape("to", to, from.dtype(), from);
  op_table(ctx.stream.device()).copy(ctx, {from, to});
}

void cast(OpContext& ctx, const ConstView& from, const View& to) {
  const ArgumentCheck check("cast", ctx);
  const bool rounds = from.dtype() == DType::kF32 && to.dtype() == DType::kBF16;
  const bool widens = from.dtype() == DType::kBF16 && to.dtype() == DType::kF32;
  check.require(rounds || widens, "from {} to {}: only f32 to bf16 and bf16 to f32 are casts", from, to);
  check.same_shape("from", from, from.dtype(), from);
  check.same_shape("to", to, to.dtype(), from);
  op_table(ctx.stream.device()).cast(ctx, {from, to});
}

void add(OpContext& ctx, const ConstView& a, const ConstView& b, const View& out) {
  const ArgumentCheck check("add", ctx);
  const bool summed = a.dtype() == DType::kF32 || a.dtype() == DType::kBF16 || a.dtype() == DType::kF64;
  check.require(summed, "a is {}, its dtype must be f32, bf16 or f64", a);
  check.same_shape("a", a, a.dtype(), a);
  check.same_shape("b", b, a.dtype(), a);
  check.same_shape("out", out, a.dtype(), a);
  op_table(ctx.stream.device()).add(ctx, {a, b, out});
}

void accumulate(OpContext& ctx, const ConstView& x, const View& out) { add(ctx, out, x, out); }

void scale(OpContext& ctx, const View& x, float factor) {
  const ArgumentCheck check("scale", ctx);
  check.same_shape("x", x, DType::kF32, x);
  op_table(ctx.stream.device()).scale(ctx, {x, factor});
}

void fill(OpContext& ctx, const View& out, float value) {
  const ArgumentCheck check("fill", ctx);
  check.compute_dtype("out", out);
  check.same_shape("out", out, out.dtype(), out);
  op_table(ctx.stream.device()).fill(ctx, {out, value});
}

}  // namespace terroir
