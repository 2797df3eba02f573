// SwiGLU (Shazeer, "GLU Variants Improve Transformer", 2020): out = silu(gate) * up, silu(g) = g / (1 +
// exp(-g)).
//
// All tensors [T, I], all f32 or all bf16 (computed in f32, rounded once); strides are free, so gate and up
// may be the halves of one fused [T, 2I] projection. The sigmoid's relative error is below 3e-7, for any
// gate: exp is taken of -|gate| only (within 2 ulp) and cannot overflow. Every element is computed on its
// own: results do not depend on the number of threads. Wrong shapes, dtypes or devices throw ContractError
// before anything is written.
#pragma once

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

struct SwigluForwardArgs {
  ConstView gate, up;
  View out;  // written; may be gate or up itself
};
void swiglu_forward(OpContext& ctx, const SwigluForwardArgs& args);

// dgate = dout * up * silu'(gate), dup = dout * silu(gate), silu'(g) = s (1 + g (1 - s)), s = sigmoid(g).
struct SwigluBackwardArgs {
  ConstView dout, gate, up;
  View dgate, dup;  // written; each may be any one of dout, gate and up itself, but not both the same
};
void swiglu_backward(OpContext& ctx, const SwigluBackwardArgs& args);

namespace cpu {
void swiglu_forward(OpContext& ctx, const SwigluForwardArgs& args);
void swiglu_backward(OpContext& ctx, const SwigluBackwardArgs& args);
}  // namespace cpu

namespace cuda {
void swiglu_forward(OpContext& ctx, const SwigluForwardArgs& args);
void swiglu_backward(OpContext& ctx, const SwigluBackwardArgs& args);
}  // namespace cuda

}  // namespace terroir
