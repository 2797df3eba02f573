// One fused step of AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019), PyTorch's
// semantics:
//
//   g = grad * grad_scale
//   m = beta1 m + (1 - beta1) g          v = beta2 v + (1 - beta2) g^2
//   p = p - lr weight_decay p - lr (m / bias_correction1) / (sqrt(v / bias_correction2) + eps)
//
// lr, the bias corrections, grad_scale and the skip flag change from step to step and are read on the device.
//
// bf16 parameters are rounded stochastically (Gupta et al., "Deep Learning with Limited Numerical Precision",
// 2015): up or down with probabilities that make the result right on average, so that updates of less than
// half a bf16 step are not lost. The random numbers are a hash of the step's rounding_seed and the element's
// number: equal for equal runs, on every device.
#pragma once

#include <span>

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
};

struct AdamWArgs {
  View params;               // f32 or bf16 [n], updated
  ConstView grads;           // f32 or bf16 [n]
  View exp_avg, exp_avg_sq;  // f32 [n], updated: m and v
  View params_bf16;  // bf16 [n], with f32 params, optional, written: the new ones, rounded to nearest even
  const StepScalars* scalars = nullptr;  // in the memory of the context's device
  AdamWOptions options;
  std::uint32_t first_element = 0;  // number of params[0], modulo 2^32: for the rounding of bf16
};
// All tensors are contiguous and share no memory. If scalars->skip is not 0 nothing is written. Every element
// is computed on its own: results do not depend on the number of threads, nor on how ZeRO cuts the
// parameters as long as elements keep their numbers. Wrong shapes, dtypes or devices throw ContractError
// before anything is written.
void adamw(OpContext& ctx, const AdamWArgs& args);

// The same for many, as one operation: on CUDA one launch for every 40 of them or so, however small they are.
void adamw(OpContext& ctx, std::span<const AdamWArgs> list);

namespace cpu {
void adamw(OpContext& ctx, const std::span<const AdamWArgs>& list);
}  // namespace cpu
namespace cuda {
void adamw(OpContext& ctx, const std::span<const AdamWArgs>& list);
}  // namespace cuda

}  // namespace terroir
