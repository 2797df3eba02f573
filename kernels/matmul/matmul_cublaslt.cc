#include <algorithm>

#include "kernels/matmul/cublaslt_plans.h"
#include "kernels/matmul/matmul.h"

namespace terroir::cuda {
namespace {

// What cuBLASLt has no algorithms for (cublasLtMatmul, "Supported Data Types").
void check_dtypes(const MatmulArgs& args) {
  const DType a = args.a.dtype(), b = args.b.dtype(), c = args.c.dtype();
  TERROIR_CHECK(a == b && (c == DType::kF32 || c == a),
                "matmul on CUDA: {} times {} into {}: a and b must have one dtype, c the same or f32",
                dtype_name(a), dtype_name(b), dtype_name(c));
  TERROIR_CHECK(!args.bias || args.bias.dtype() == c, "matmul on CUDA: bias is {}, must have c's dtype, {}",
                dtype_name(args.bias.dtype()), dtype_name(c));
}

void clear(const View& c, cudaStream_t stream) {
  const auto bytes = [&](std::int64_t elements) {
    return static_cast<std::size_t>(elements * dtype_bytes(c.dtype()));
  };
  const std::int64_t stride = std::max(c.stride(0), c.size(1));
  check(cudaMemset2DAsync(c.raw(), bytes(stride), 0, bytes(c.size(1)), static_cast<std::size_t>(c.size(0)),
                          stream),
        "cudaMemset2DAsync");
}

// k = 0 as k = 1: a column of zeros times a row of zeros, so that c and bias are treated as in any product.
void describe_zero_product(GemmDescription& gemm, GemmPointers& pointers, const void* zeros) {
  const std::int64_t bytes = std::max(gemm.m, gemm.n) * dtype_bytes(gemm.a.dtype);
  TERROIR_CHECK(bytes <= static_cast<std::int64_t>(CublasLtPlans::kZeroBytes),
                "matmul on CUDA: {} x {} x 0 with a bias is too large", gemm.n, gemm.m);
  const auto vector_of_zeros = [&](std::int64_t rows, std::int64_t columns) {
    return GemmOperand{gemm.a.dtype, rows, columns, rows, 256};
  };
  gemm.k = 1;
  gemm.transpose_a = gemm.transpose_b = false;
  gemm.a = vector_of_zeros(gemm.m, 1);
  gemm.b = vector_of_zeros(1, gemm.n);
  pointers.a = pointers.b = zeros;
}

}  // namespace

void matmul(OpContext& ctx, const MatmulArgs& args) {
  check_dtypes(args);
  const auto stream = static_cast<cudaStream_t>(ctx.stream.native());
  GemmDescription gemm = column_major(args);
  if (gemm.m == 0 || gemm.n == 0) return;
  if (gemm.k == 0 && !gemm.has_bias) {
    if (!gemm.accumulate) clear(args.c, stream);
    return;
  }
  GemmPointers pointers = {args.b.raw(), args.a.raw(), args.c.raw(), args.bias.raw()};
  auto& plans = ctx.cache<CublasLtPlans>();
  if (gemm.k == 0) describe_zero_product(gemm, pointers, plans.zeros());
  plans.run(gemm, pointers, ctx.cache<GemmChoices>(), stream);
}

}  // namespace terroir::cuda
