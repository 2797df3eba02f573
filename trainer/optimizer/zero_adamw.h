// AdamW with its state sharded over the ranks that hold the same parameters (ZeRO-1, Rajbhandari et al.
// 2020).
#pragma once

#include <utility>
#include <vector>

#include "kernels/adamw/adamw.h"
#include "kernels/tensor/op_context.h"
#include "trainer/config/config.h"
#include "trainer/model/parameters.h"

namespace terroir {

class ZeroAdamW {
 public:
  ZeroAdamW(ParameterTable& table, const OptimizerSection& options, OpContext& ctx);

  // Adds to `squared`, f64 [1] on the device, the squared norm of the reduced gradients that this rank
  // counts: NaN or infinite where one of them is. The sum over all ranks is the model's.
  void add_squared_norm(View squared);

  // Updates this rank's shards with scalars that lie on the device, and begins to gather the parameters
  // (ParameterTable::wait_for). Collective over the groups of all classes. With scalars->skip nothing changes
  // anywhere.
  void step(const StepScalars* scalars);

  // One array of this rank's part of the state: elements `range` of a class's flat buffer.
  struct Array {
    int param_class = 0;
    Range range;
    const char* state;  // "weight", "exp_avg", "exp_avg_sq"; "gradient"
    float* data;
  };
  // For checkpoints: f32 in host memory. f32 state on the CPU is given itself, all else as a copy made by
  // this call, valid until the next, which load_arrays() takes back.
  std::vector<Array> arrays(bool with_moments);
  // The state is what was written to the last arrays(), and every rank gets every parameter. Collective over
  // the groups of all classes.
  void load_arrays();
  // The reduced gradients of the same ranges.
  std::vector<Array> gradient_arrays();

 private:
  struct BucketState {
    View master;  // the parameters themselves where these have its dtype
    View exp_avg, exp_avg_sq;
    View params_bf16;  // of the shard, where parameters are bf16 and the master f32
  };
  template <class Visit>
  void for_each_bucket(Visit visit) const;
  std::vector<Array> on_host(std::vector<std::pair<Array, View>> arrays);
  void list_operands();
  Device device() const { return ctx_.stream.device(); }
  ParameterTable& table_;
  OptimizerSection options_;
  OpContext& ctx_;
  Buffer state_, norm_workspace_;
  // Of the last arrays().
  struct HostCopy {
    View state, host;
    View host_bf16;  // of a bf16 state: what `host` is widened from
  };
  std::vector<HostCopy> host_copies_;
  Buffer host_memory_, host_memory_bf16_;
  std::vector<std::vector<BucketState>> buckets_;  // [class][bucket]
  std::vector<AdamWArgs> updates_;                 // of all buckets
  std::vector<ConstView> counted_grads_;           // shards whose norm this rank counts
};

// Learning rate of step `step` (0-based) of `total_steps`: a linear warm-up, then constant, cosine, or WSD
// (warm-up, stable, linear decay over the last steps) down to final_lr * lr.
double learning_rate(const ScheduleSection& schedule, double lr, std::int64_t step, std::int64_t total_steps);

}  // namespace terroir
