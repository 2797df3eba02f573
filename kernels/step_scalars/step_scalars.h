// From a step's totals over all ranks to the scalars that AdamW reads, without the host in between: the exact
// loss factor, clipping by the global norm, and whether the step must be skipped.
//
//   to_mean   = 1 / (targets * loss_scale), or 0 without targets   (gradients were computed times loss_scale)
//   grad_norm = sqrt(squared norm) * to_mean                       (of the mean loss's gradient)
//   clip      = grad_clip / grad_norm if grad_clip > 0 and grad_norm is larger, else 1
//   scalars   = {rates..., grad_scale = to_mean * clip, rounding_seed, skip = not finite, or no targets}
//
// Not finite: the squared norm, or the sum of the losses.
#pragma once

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

struct StepScalarsArgs {
  // f64 [3 N + 1] or longer, contiguous: losses (nats) of N sources, targets, bytes; then the squared norm.
  ConstView totals;
  std::int64_t num_sources = 0;
  ConstView rates;          // f32 [3], contiguous: learning rate and the two bias corrections of this step
  ConstView rounding_seed;  // i32 [1]: of this step
  double loss_scale = 1;
  double grad_clip = 0;            // 0: no clipping
  View grad_norm;                  // f64 [1], written
  StepScalars* scalars = nullptr;  // in the memory of the context's device, written
};
// f64 arithmetic of correctly rounded operations in one order: the same bits on every device. Throws
// ContractError on wrong shapes, dtypes or devices, before anything is written.
void step_scalars(OpContext& ctx, const StepScalarsArgs& args);

namespace cpu {
void step_scalars(OpContext& ctx, const StepScalarsArgs& args);
}
namespace cuda {
void step_scalars(OpContext& ctx, const StepScalarsArgs& args);
}

}  // namespace terroir
