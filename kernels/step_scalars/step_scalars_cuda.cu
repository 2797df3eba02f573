// A few numbers by one thread, in the order of step_scalars_cpu.cc.
#include <cfloat>

#include "kernels/cuda/device.cuh"
#include "kernels/step_scalars/step_scalars.h"

namespace terroir::cuda {
namespace {

__device__ __forceinline__ bool is_finite(double value) { return fabs(value) <= DBL_MAX; }

__global__ void step_scalars_kernel(const double* totals, std::int64_t num_sources, const float* rates,
                                    const std::int32_t* rounding_seed, double loss_scale, double grad_clip,
                                    double* grad_norm, StepScalars* scalars) {
  double nats = 0, targets = 0;
  for (std::int64_t source = 0; source < num_sources; ++source) {
    nats += totals[source];
    targets += totals[num_sources + source];
  }
  const double squared = totals[3 * num_sources];
  const double to_mean = targets > 0 ? 1 / (targets * loss_scale) : 0;
  const double norm = sqrt(squared) * to_mean;
  const double clip = grad_clip > 0 && norm > grad_clip ? grad_clip / norm : 1;
  *grad_norm = norm;
  scalars->learning_rate = rates[0];
  scalars->bias_correction1 = rates[1];
  scalars->bias_correction2 = rates[2];
  scalars->grad_scale = static_cast<float>(to_mean * clip);
  scalars->rounding_seed = static_cast<std::uint32_t>(*rounding_seed);
  scalars->skip = is_finite(squared) && is_finite(nats) && targets > 0 ? 0 : 1;
}

}  // namespace

void step_scalars(OpContext& ctx, const StepScalarsArgs& args) {
  launch(step_scalars_kernel, dim3(1), dim3(1), 0, native_stream(ctx),
         static_cast<const double*>(args.totals.raw()), args.num_sources,
         static_cast<const float*>(args.rates.raw()),
         static_cast<const std::int32_t*>(args.rounding_seed.raw()), args.loss_scale, args.grad_clip,
         static_cast<double*>(args.grad_norm.raw()), args.scalars);
}

}  // namespace terroir::cuda
