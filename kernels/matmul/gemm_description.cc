#include "kernels/matmul/gemm_description.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>

namespace terroir {
namespace {

constexpr std::uintptr_t kMaxAlignment = 256;

int alignment_of(const void* address) {
  const auto bits = reinterpret_cast<std::uintptr_t>(address) | kMaxAlignment;
  return 1 << std::countr_zero(bits);
}

GemmOperand operand(const ConstView& matrix) {
  const std::int64_t row = matrix.size(1);
  // A single row may have any stride, but BLAS wants one that could hold the row.
  return {.dtype = matrix.dtype(),
          .rows = row,
          .columns = matrix.size(0),
          .leading_dimension = std::max({matrix.stride(0), row, std::int64_t{1}}),
          .alignment_bytes = alignment_of(matrix.raw())};
}

}  // namespace

GemmDescription column_major(const MatmulArgs& args) {
  const MatmulOptions& options = args.options;
  return {.m = args.c.size(1),
          .n = args.c.size(0),
          .k = args.a.size(options.transpose_a ? 0 : 1),
          .transpose_a = options.transpose_b,
          .transpose_b = options.transpose_a,
          .a = operand(args.b),
          .b = operand(args.a),
          .c = operand(args.c),
          .accumulate = options.accumulate,
          .has_bias = static_cast<bool>(args.bias)};
}

std::string describe(const GemmDescription& gemm) {
  const GemmOperand &a = gemm.a, &b = gemm.b, &c = gemm.c;
  return fmt::format("m{} n{} k{} {}{} {}x{}+{} ld {} {} {} align {} {} {}{}{}", gemm.m, gemm.n, gemm.k,
                     gemm.transpose_a ? 'T' : 'N', gemm.transpose_b ? 'T' : 'N', dtype_name(a.dtype),
                     dtype_name(b.dtype), dtype_name(c.dtype), a.leading_dimension, b.leading_dimension,
                     c.leading_dimension, a.alignment_bytes, b.alignment_bytes, c.alignment_bytes,
                     gemm.has_bias ? " bias" : "", gemm.accumulate ? " accumulate" : "");
}

}  // namespace terroir
