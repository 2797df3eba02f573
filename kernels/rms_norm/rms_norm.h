// RMSNorm with the residual addition before it fused in (Zhang and Sennrich, "Root Mean Square Layer
// Normalization", 2019; no centring, no bias).
//
//   residual = x + delta                          (delta absent: residual = x)
//   rstd     = 1 / sqrt(mean(residual^2) + eps)   (one value a row)
//   y        = weight * residual * rstd
//
// A row is the innermost dimension, H long. Tensors of rows have rank 2, [T, H], or rank 3, [T, heads, H]
// (the per-head norm of queries and keys, strided views of the fused projection); `...` below stands for
// either. All have the same dtype, f32 or bf16, but rstd and dweight, which are f32. Sums and products are
// f32, rounded where stored; y is the norm of the rounded residual, as backward sees it. Wrong shapes, dtypes
// or devices throw ContractError before anything is written.
#pragma once

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

struct RmsNormForwardArgs {
  ConstView x;       // [..., H]
  ConstView delta;   // [..., H], optional
  ConstView weight;  // [H]
  float eps = 0;
  View residual_out;  // [..., H], given if and only if delta is: x + delta. May be x or delta itself.
  View y;             // [..., H]. May be x itself if delta is absent.
  View rstd;          // [...], the shape of x without H, contiguous: what backward needs
};
void rms_norm_forward(OpContext& ctx, const RmsNormForwardArgs& args);

struct RmsNormBackwardArgs {
  ConstView dy;         // [..., H]
  ConstView dresidual;  // [..., H], optional: gradient that reaches the residual from later layers, added
  ConstView residual;   // [..., H]: residual_out of forward, or its x if there was no delta
  ConstView weight;     // [H]
  ConstView rstd;       // [...], contiguous, from forward
  View
      dx;  // [..., H], gradient of the residual: that of x and of delta alike. May be dy or dresidual itself.
  View dweight;    // [H], added to
  View workspace;  // u8 [rms_norm_backward_workspace(shape of dy)] or longer
};
// dweight is summed over fixed sets of rows, then over these parts in their order: the number of threads
// changes no bit, nor does a GPU's schedule.
void rms_norm_backward(OpContext& ctx, const RmsNormBackwardArgs& args);

// Bytes, enough on any device. `rows` is the product of all dimensions of dy but the last.
constexpr std::int64_t kRmsNormMaxParts =
    264;  // of dweight: two blocks for each of an H100's multiprocessors
std::int64_t rms_norm_backward_workspace(std::int64_t rows, std::int64_t hidden_size);

namespace cpu {
void rms_norm_forward(OpContext& ctx, const RmsNormForwardArgs& args);
void rms_norm_backward(OpContext& ctx, const RmsNormBackwardArgs& args);
}  // namespace cpu

namespace cuda {
void rms_norm_forward(OpContext& ctx, const RmsNormForwardArgs& args);
void rms_norm_backward(OpContext& ctx, const RmsNormBackwardArgs& args);
}  // namespace cuda

}  // namespace terroir
