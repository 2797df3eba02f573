#include "kernels/matmul/matmul.h"

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {
namespace {

void check_rows(const ArgumentCheck& check, const char* name, const ConstView& view) {
  check.require(view.size(0) <= 1 || view.stride(0) >= view.size(1),
                "{} is {} with overlapping rows (stride {})", name, view, view.stride(0));
}

// The dtype to demand of `view`: its own if it is one of those taken.
DType float_dtype(const ConstView& view) { return view.dtype() == DType::kBF16 ? DType::kBF16 : DType::kF32; }

}  // namespace

void matmul(OpContext& ctx, const ConstView& a, const ConstView& b, const View& c,
            const MatmulOptions& options, const ConstView& bias) {
  const ArgumentCheck check("matmul", ctx);
  check.tensor("a", a, float_dtype(a), {kAnySize, kAnySize});
  const std::int64_t m = a.size(options.transpose_a ? 1 : 0);
  const std::int64_t k = a.size(options.transpose_a ? 0 : 1);
  check.tensor("c", c, float_dtype(c), {m, kAnySize});
  const std::int64_t n = c.size(1);
  if (options.transpose_b) {
    check.tensor("b", b, float_dtype(b), {n, k});
  } else {
    check.tensor("b", b, float_dtype(b), {k, n});
  }
  check_rows(check, "a", a);
  check_rows(check, "b", b);
  check_rows(check, "c", c);
  if (bias) check.tensor("bias", bias, bias.dtype() == c.dtype() ? c.dtype() : DType::kF32, {n});
  op_table(ctx.stream.device()).matmul(ctx, {a, b, c, options, bias});
}

}  // namespace terroir
