// Matrix multiplication: c = op(a) op(b), or c += op(a) op(b), where op(x) is x or its transpose.
#pragma once

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

struct MatmulOptions {
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;  // add to c instead of overwriting it
};

struct MatmulArgs {
  ConstView a, b;
  View c;
  MatmulOptions options;
};

// a: [m, k], or [k, m] if transpose_a; b: [k, n], or [n, k] if transpose_b; c: [m, n]. All f32; rows may be
// strided (but not overlap), c shares no memory with a and b. Any size may be 0: with k = 0 the product is
// zero.
//
// A linear layer y = x w^T with weights w [out, in]: matmul(ctx, x, w, y, {.transpose_b = true}); its
// gradients are matmul(ctx, dy, w, dx) and matmul(ctx, dy, x, dw, {.transpose_a = true, .accumulate = true}).
//
// Deterministic for a fixed ctx.num_threads and shape. Without `accumulate` the old contents of c are never
// read: they may be NaN. Throws ContractError on wrong shapes, dtypes or devices, before anything is written.
void matmul(OpContext& ctx, const ConstView& a, const ConstView& b, const View& c,
            const MatmulOptions& options = {});

namespace cpu {
// oneDNN's sgemm. Memory: oneDNN takes packing buffers from the heap in each call and gives them back; with
// glibc they come from its free lists once warm. Nothing else is allocated.
void matmul(OpContext& ctx, const MatmulArgs& args);
}  // namespace cpu
namespace cuda {
void matmul(OpContext& ctx, const MatmulArgs& args);
}  // namespace cuda

}  // namespace terroir
