// The model on this rank and how it takes a step: what training, evaluation, checkpoints and layout tests
// share.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "trainer/checkpoint/slice.h"
#include "trainer/config/config.h"
#include "trainer/model/stage_model.h"
#include "trainer/optimizer/gradient_reducer.h"
#include "trainer/optimizer/zero_adamw.h"

namespace terroir {

struct StepResult {
  LossSums sums;         // of the global batch, by source; the same on all ranks
  double grad_norm = 0;  // of the mean loss's gradient, before clipping
  double learning_rate = 0;
  bool nonfinite = false;                // loss or gradient is NaN or infinite: nothing was updated
  bool signalled = false;                // some rank passed `signalled`
  std::map<std::string, double> part_s;  // of this rank: StepTimes::seconds()
  double loss() const;                   // nats a target token; NaN without targets
};

// Of weights and activations; `auto` where no device was chosen is f32.
DType compute_dtype(const Config& config);

class Engine {
 public:
  // Plans and allocates; parameters are zero until initialize(), or loaded through slices(). ctx takes from
  // the configuration what ops may choose. Collective over the mesh.
  Engine(const Config& config, Mesh& mesh, OpContext& ctx, std::span<const std::uint16_t> token_bytes,
         int num_sources);
  // What is still gathered must end before its memory does.
  ~Engine();

  // The memory of this rank, before allocating it; what takes long to plan stays in ctx, which an engine
  // should get after. Throws UserError where the layout does not fit the model. Collective over the mesh.
  static StageMemory plan(const Config& config, Mesh& mesh, OpContext& ctx);

  // Weights from the configured seed; synchronize() must follow.
  void initialize();

  // One optimizer step (0-based number `step`) on this data rank's micro-batches, which `next_batch` gives in
  // order. `before_update` runs when the gradients are reduced. Collective over the mesh.
  StepResult train_step(std::int64_t step, const std::function<const SampleBatch&()>& next_batch,
                        bool signalled = false, const std::function<void()>& before_update = {});

  // Sums of losses over `num_micro_batches` of this data rank (0 is allowed), by source, over all ranks;
  // nothing is updated. Collective over the mesh.
  LossSums evaluate(int num_micro_batches, const std::function<const SampleBatch&()>& next_batch);

  // Computes what steps and evaluations compute, on made-up tokens and as few micro-batches as meet every
  // kind of operation, and leaves no trace: weights and optimizer state are only read, everything else begins
  // anew in each step. For choices and plans that are made when an operation is first met. Collective over
  // the mesh.
  void rehearse();

  // Micro-batches of one step on this data rank.
  int num_micro_batches() const { return num_micro_batches_; }

  // This rank's part of the state, as pieces of logical tensors. `owned_only`: without copies that another
  // rank owns (what a checkpoint stores); otherwise all that this rank must load before synchronize(). Host
  // memory: on the CPU the state itself, otherwise a copy made by this call.
  std::vector<StateSlice> slices(bool owned_only, bool with_optimizer_state);
  // This rank's part of the reduced gradients (state "gradient"), valid in before_update. Gradients are of
  // the sum of token losses times loss_scale().
  std::vector<StateSlice> gradient_slices();
  // After slices() were written: every rank gets every parameter it needs. Collective over the mesh.
  void synchronize() { optimizer_->load_arrays(); }

  double loss_scale() const;
  StageModel& model() { return *model_; }

 private:
  // What a step's one all-reduce sums over all ranks, f64: losses, targets and bytes by source, the squared
  // gradient norm, and the number of ranks that were signalled.
  struct Totals {
    Buffer device, host;       // 3 N + 2 elements each; the host's is page-locked
    Buffer rates_host, rates;  // f32 [3], see StepScalarsArgs, and the seed for rounding
    Buffer grad_norm, scalars;
  };
  View totals(const Buffer& buffer) const;
  View loss_block() const;
  void clear_totals(bool signalled);
  void set_rates(std::int64_t step, double learning_rate);
  void update_parameters();
  void reduce_totals();
  void read_totals(StepResult& result);
  std::vector<StateSlice> slices_of(const std::vector<ZeroAdamW::Array>& arrays, bool owned_only) const;

  const Config& config_;
  Mesh& mesh_;
  OpContext& ctx_;
  int num_sources_;
  int num_micro_batches_;
  Schedule schedule_;
  std::unique_ptr<StageModel> model_;
  std::unique_ptr<ZeroAdamW> optimizer_;
  StepTimes times_;
  Totals totals_;
};

}  // namespace terroir
