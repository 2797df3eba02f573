// RMSNorm of each query and key head and the rotary embedding after it (Qwen3), in one pass over the fused
// projection's activation, in place.
//
//   rstd = 1 / sqrt(mean(x^2) + eps)         (one value a head)
//   y    = rotate(weight * x * rstd)         (kernels/rope/rope.h; weight: that of queries or of keys)
//
// T tokens, N heads: the first `query_heads` are queries, the others keys. D: head_dim, even; P positions in
// the table. All tensors have x's dtype, f32 or bf16, except where it is named; sums and products are f32, y
// and dx rounded once. Without norms rope_apply() does the rest. Wrong shapes, dtypes or devices, an odd D
// and (on the CPU) a position outside the table throw ContractError before anything is written.
#pragma once

#include <cstdint>

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

struct QkNormRopeForwardArgs {
  View x;                        // [T, N, D], replaced by y; strides free
  std::int64_t query_heads = 0;  // <= N
  ConstView q_weight, k_weight;  // [D]
  ConstView positions;           // i32 [T], 0 <= position < P
  ConstView table;               // f32 [P, D] of rope_table()
  float eps = 0;
  View before;  // [T, N, D], optional: x as it was, which backward needs
  View rstd;    // f32 [T, N], contiguous
};
// Results do not depend on the number of threads.
void qk_norm_rope_forward(OpContext& ctx, const QkNormRopeForwardArgs& args);

struct QkNormRopeBackwardArgs {
  View dx;                       // [T, N, D], in: gradient of y; out: of x
  std::int64_t query_heads = 0;  // as in forward, like the next three
  ConstView q_weight, k_weight;  // [D]
  ConstView positions;           // i32 [T]
  ConstView table;               // f32 [P, D]
  ConstView before;              // [T, N, D], from forward
  ConstView rstd;                // f32 [T, N], from forward
  View dq_weight, dk_weight;     // f32 [D], added to
  View workspace;                // u8 [qk_norm_rope_backward_workspace(D)] or longer
};
// The weights' gradients are summed over fixed sets of rows, then over these parts in their order: neither
// the number of threads nor a GPU's schedule changes a bit.
void qk_norm_rope_backward(OpContext& ctx, const QkNormRopeBackwardArgs& args);

// Bytes, enough on any device.
constexpr std::int64_t kQkNormRopeMaxParts = 396;  // three blocks for each of an H100's multiprocessors
std::int64_t qk_norm_rope_backward_workspace(std::int64_t head_dim);

namespace cpu {
void qk_norm_rope_forward(OpContext& ctx, const QkNormRopeForwardArgs& args);
void qk_norm_rope_backward(OpContext& ctx, const QkNormRopeBackwardArgs& args);
}  // namespace cpu

namespace cuda {
void qk_norm_rope_forward(OpContext& ctx, const QkNormRopeForwardArgs& args);
void qk_norm_rope_backward(OpContext& ctx, const QkNormRopeBackwardArgs& args);
}  // namespace cuda

}  // namespace terroir
