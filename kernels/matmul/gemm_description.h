// A matrix product as BLAS libraries for GPUs see it: column-major.
//
// The rows of a row-major matrix are the columns of a column-major one that is its transpose, in the same
// memory. So our C = op(A) op(B) is their C^T = op(B)^T op(A)^T: operands change places, no transpose flag
// changes, their m is our n.
#pragma once

#include <compare>
#include <string>

#include "kernels/matmul/matmul.h"

namespace terroir {

// As it lies in memory: element (i, j) at i + j * leading_dimension.
struct GemmOperand {
  DType dtype = DType::kF32;
  std::int64_t rows = 0, columns = 0;
  std::int64_t leading_dimension = 0;
  int alignment_bytes = 0;  // of its address: a power of two up to 256
  auto operator<=>(const GemmOperand&) const = default;
};

// c[m, n] = op(a) op(b) (+ c) (+ bias along m, the same for each column). op(a) is [m, k], op(b) is [k, n].
struct GemmDescription {
  std::int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  GemmOperand a, b, c;
  bool accumulate = false;
  bool has_bias = false;
  auto operator<=>(const GemmDescription&) const = default;
};

// Its a is args.b and its b args.a. REQUIRES: checked arguments.
GemmDescription column_major(const MatmulArgs& args);

// Names a description in a list of choices (gemm_choice.h): "m128 n64 k32 NT bf16xbf16+f32 ld 128 64 128
// align 256 256 256 bias accumulate", with "f32" after + the dtype of c.
std::string describe(const GemmDescription& gemm);

}  // namespace terroir
