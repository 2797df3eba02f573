// Matrix multiplication: c = op(a) op(b) + bias, or c += op(a) op(b) + bias, where op(x) is x or its
// transpose.
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
  ConstView bias;
};

// a: [m, k], or [k, m] if transpose_a; b: [k, n], or [n, k] if transpose_b; c: [m, n]; bias, optional: [n],
// added to every row. a, b and c are f32 or bf16, each for itself; bias is f32 or has c's dtype. Rows may be
// strided (but not overlap); c shares no memory with the others. Any size may be 0: with k = 0 the product is
// zero.
//
// Sums are f32 over the whole of k, with what accumulate and bias add: a bf16 c is the f32 result rounded
// once, to nearest even. NaN and infinities go where the formula takes them.
//
// A linear layer y = x w^T + bias with weights w [out, in]: matmul(ctx, x, w, y, {.transpose_b = true},
// bias); its gradients are matmul(ctx, dy, w, dx) and matmul(ctx, dy, x, dw, {.transpose_a = true,
// .accumulate = true}).
//
// Deterministic. Without `accumulate` the old contents of c are never read: they may be NaN. Throws
// ContractError on wrong shapes, dtypes or devices, before anything is written.
void matmul(OpContext& ctx, const ConstView& a, const ConstView& b, const View& c,
            const MatmulOptions& options = {}, const ConstView& bias = {});

namespace cpu {
// The same bits for any ctx.num_threads. The first call of a context takes scratch memory of fixed size: 31
// MiB of address space, of which 3.2 MiB a thread are used, 8 MiB with a bf16 c, by four threads at most
// (more share it; gemm::Scratch in blocks.h). Later calls allocate nothing.
void matmul(OpContext& ctx, const MatmulArgs& args);
}  // namespace cpu
namespace cuda {
// cuBLASLt. a and b must have one dtype, c the same or f32, bias that of c; k = 0 with a bias up to m, n =
// 262,144. f32 is true f32, not TF32. The first call of a context takes 33 MiB of device memory, the first
// call of a kind plans it on the host; ctx.cache<GemmChoices>() (gemm_choice.h) says which algorithm, and
// records it. Nothing is allocated later. The same bits at every run on equal GPUs with the same library and
// choices.
void matmul(OpContext& ctx, const MatmulArgs& args);
}  // namespace cuda

}  // namespace terroir
