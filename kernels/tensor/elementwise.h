// Copies, casts and sums of tensors: what stands between ops, and what communicators need on local memory.
//
// All views of a call have the same shape, any strides, and live on the context's device. Unless said
// otherwise an output shares no memory with an input. Every element is computed on its own: results do not
// depend on the number of threads. Wrong shapes, dtypes or devices throw ContractError before anything is
// written.
#pragma once

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

struct CopyArgs {
  ConstView from;
  View to;
};
struct AddArgs {
  ConstView a, b;
  View out;
};
struct ScaleArgs {
  View x;
  float factor;
};
struct FillArgs {
  View out;
  float value;
};

// to = from, bit for bit. Any dtype, the same for both.
void copy(OpContext& ctx, const ConstView& from, const View& to);

// to = from in another dtype: f32 to bf16 (round to nearest, ties to even; a NaN stays a NaN) or bf16 to f32
// (exact).
void cast(OpContext& ctx, const ConstView& from, const View& to);

// out = a + b. f32, bf16 (summed in f32, rounded once) or f64, the same for all. `out` may be `a` or `b` (the
// same view, not a shifted one).
void add(OpContext& ctx, const ConstView& a, const ConstView& b, const View& out);

// out += x: add(ctx, out, x, out).
void accumulate(OpContext& ctx, const ConstView& x, const View& out);

// x *= factor. f32.
void scale(OpContext& ctx, const View& x, float factor);

// Every element = value. f32 or bf16 (rounded).
void fill(OpContext& ctx, const View& out, float value);

namespace cpu {
void copy(OpContext& ctx, const CopyArgs& args);
void cast(OpContext& ctx, const CopyArgs& args);
void add(OpContext& ctx, const AddArgs& args);
void scale(OpContext& ctx, const ScaleArgs& args);
void fill(OpContext& ctx, const FillArgs& args);
}  // namespace cpu

namespace cuda {
void copy(OpContext& ctx, const CopyArgs& args);
void cast(OpContext& ctx, const CopyArgs& args);
void add(OpContext& ctx, const AddArgs& args);
void scale(OpContext& ctx, const ScaleArgs& args);
void fill(OpContext& ctx, const FillArgs& args);
}  // namespace cuda

}  // namespace terroir
