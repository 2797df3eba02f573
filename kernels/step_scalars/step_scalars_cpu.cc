#include <cmath>

#include "kernels/step_scalars/step_scalars.h"

namespace terroir::cpu {

void step_scalars(OpContext&, const StepScalarsArgs& args) {
  const double* totals = args.totals.data<double>();
  double nats = 0, targets = 0;
  for (std::int64_t source = 0; source < args.num_sources; ++source) {
    nats += totals[source];
    targets += totals[args.num_sources + source];
  }
  const double squared = totals[3 * args.num_sources];
  // Backward ran with a constant scale; the mean is over the targets there really were.
  const double to_mean = targets > 0 ? 1 / (targets * args.loss_scale) : 0;
  const double norm = std::sqrt(squared) * to_mean;
  const double clip = args.grad_clip > 0 && norm > args.grad_clip ? args.grad_clip / norm : 1;
  const bool finite = std::isfinite(squared) && std::isfinite(nats);
  const float* rates = args.rates.data<float>();
  args.grad_norm.data<double>()[0] = norm;
  *args.scalars = {.learning_rate = rates[0],
                   .bias_correction1 = rates[1],
                   .bias_correction2 = rates[2],
                   .grad_scale = static_cast<float>(to_mean * clip),
                   .rounding_seed = static_cast<std::uint32_t>(*args.rounding_seed.data<std::int32_t>()),
                   .skip = finite && targets > 0 ? 0 : 1};
}

}  // namespace terroir::cpu
