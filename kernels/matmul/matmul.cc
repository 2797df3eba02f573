#include "kernels/matmul/matmul.h"

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {
namespace {

void check_rows(const ArgumentCheck& check, const char* name, const ConstView& view) {
  check.require(view.size(0) <= 1 || view.stride(0) >= view.size(1),
                "{} is {} with overlapping rows (stride {})", name, view, view.stride(0));
}

}  // namespace

void matmul(OpContext& ctx, const ConstView& a, const ConstView& b, const View& c,
            const MatmulOptions& options) {
  const ArgumentCheck check("matmul", ctx);
  check.tensor("a", a, DType::kF32, {kAnySize, kAnySize});
  const std::int64_t m = a.size(options.transpose_a ? 1 : 0);
  const std::int64_t k = a.size(options.transpose_a ? 0 : 1);
  check.tensor("c", c, DType::kF32, {m, kAnySize});
  const std::int64_t n = c.size(1);
  if (options.transpose_b) {
    check.tensor("b", b, DType::kF32, {n, k});
  } else {
    check.tensor("b", b, DType::kF32, {k, n});
  }
  check_rows(check, "a", a);
  check_rows(check, "b", b);
  check_rows(check, "c", c);
  op_table(ctx.stream.device()).matmul(ctx, {a, b, c, options});
}

}  // namespace terroir
