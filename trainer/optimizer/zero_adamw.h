// AdamW with its state sharded over the ranks that hold the same parameters (ZeRO-1, Rajbhandari et al.
// 2020).
#pragma once

#include <functional>
#include <vector>

#include "kernels/tensor/op_context.h"
#include "trainer/config/config.h"
#include "trainer/model/parameters.h"

namespace terroir {

class ZeroAdamW {
 public:
  ZeroAdamW(ParameterTable& table, const OptimizerSection& options, OpContext& ctx);

  // Squared norm of the reduced gradients that this rank counts, and whether one is NaN or infinite. The sum
  // over all ranks is the model's.
  struct GradientNorm {
    double squared = 0;
    bool nonfinite = false;
  };
  GradientNorm gradient_norm();

  // Updates this rank's shards and gathers the parameters. Collective over the groups of all classes. With
  // scalars.skip nothing changes anywhere.
  void step(const StepScalars& scalars);

  // Only the gather: after this rank's shards were loaded from a checkpoint.
  void gather_parameters();

  // This rank's state, for checkpoints: for each bucket of each class, the shard's range of elements in the
  // class's flat buffer and its three arrays.
  struct Shard {
    int param_class = 0;
    Range range;
    float *weight, *exp_avg, *exp_avg_sq;
  };
  std::vector<Shard> shards();

 private:
  struct BucketState {
    View exp_avg, exp_avg_sq;
  };
  ParameterTable& table_;
  OptimizerSection options_;
  OpContext& ctx_;
  Buffer state_;
  std::vector<std::vector<BucketState>> buckets_;  // [class][bucket]
};

// Learning rate of step `step` (0-based) of `total_steps`: a linear warm-up, then constant, cosine, or WSD
// (warm-up, stable, linear decay over the last steps) down to final_lr * lr.
double learning_rate(const ScheduleSection& schedule, double lr, std::int64_t step, std::int64_t total_steps);

}  // namespace terroir
