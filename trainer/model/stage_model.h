// One pipeline stage of the model on one rank: parameters, activation memory, forward and backward of
// micro-batches.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/loader/corpus.h"
#include "parallel/schedule.h"
#include "trainer/model/layer_attention.h"
#include "trainer/model/stage_parameters.h"
#include "trainer/model/step_times.h"

namespace terroir {

struct StageOptions {
  std::int64_t micro_batch_size = 1, sequence_length = 1;
  int num_slots = 1;          // micro-batches in flight, from the schedule
  int num_micro_batches = 1;  // of a step
  bool recompute = false;
  bool sequence_parallel = true;
  std::int64_t bucket_bytes = 25 << 20;
  ParameterDTypes dtypes;  // compute: also of activations and their gradients
  // Gradients are those of (sum of token losses) * loss_scale.
  float loss_scale = 1;
  int num_sources = 1;
};

// Sums over target tokens, by source.
struct LossSums {
  std::vector<double> nll;     // nats
  std::vector<double> tokens;  // targets that count
  std::vector<double> bytes;   // of text that they stand for
};

// Bytes by kind, and who computes attention: what `train --dry-run` prints before anything is allocated.
struct StageMemory {
  std::int64_t parameters = 0, gradients = 0, optimizer_state = 0, activations = 0, scratch = 0;
  AttentionPlan attention;
  std::int64_t total() const { return parameters + gradients + optimizer_state + activations + scratch; }
};

class StageModel : public PipelineStage {
 public:
  // `token_bytes`: length of each id's text, for bits per byte; may be empty. Collective over the mesh.
  StageModel(const ModelConfig& config, const StageLayout& layout, const StageOptions& options, Mesh& mesh,
             OpContext& ctx, std::span<const std::uint16_t> token_bytes);
  ~StageModel() override;

  // Sizes of a stage without allocating it; cuDNN's plans stay in ctx. Collective over the mesh.
  static StageMemory plan(const ModelConfig& config, const StageLayout& layout, const StageOptions& options,
                          Mesh& mesh, OpContext& ctx);

  StageParameters& parameters() { return parameters_; }

  // Begins a step (gradients set to zero) of `num_micro_batches`, or with training = false an evaluation (no
  // gradients, parameters untouched). forward() takes its micro-batches from `next_batch`, in order. The last
  // stage's first tensor rank adds their losses to loss_sums, f64 [3, num_sources] on the device: nats,
  // targets that count, and bytes of text that these stand for. `gradient_ready(block)` is called during the
  // last micro-batch's backward as soon as a block's gradient is complete.
  void begin(bool training, int num_micro_batches, View loss_sums,
             std::function<const SampleBatch&()> next_batch, std::function<void(int)> gradient_ready);

  void forward(const Action& action) override;
  void backward(const Action& action) override;
  void backward_input(const Action& action) override;
  void backward_weight(const Action& action) override;
  void reduce_grads(const Action& action) override;
  View activation_in(const Action& action) override;
  View activation_out(const Action& action) override;
  View gradient_in(const Action& action) override;
  View gradient_out(const Action& action) override;
  // Called by reduce_grads.
  std::function<void()> on_reduce_grads;
  // Told which part the passes begin, if given; what follows a pass is communication.
  StepTimes* times = nullptr;

 private:
  struct Slot;
  struct StagedIds;
  struct Memory;
  void fill_tables(std::span<const std::uint16_t> token_bytes);
  LayerEnvironment environment(const Slot& slot);
  void load_batch(Slot& slot, int micro_batch);
  void embed(Slot& slot);
  void run_layers(Slot& slot);
  void head_forward(Slot& slot);
  void add_losses(const Slot& slot);
  void head_backward(Slot& slot, View gradient);
  void embedding_backward(Slot& slot, View gradient);
  void ready(int block);
  void enter(StepPart part) {
    if (times != nullptr) times->enter(part);
  }

  ModelConfig config_;
  StageOptions options_;
  OpContext& ctx_;
  TensorRegion region_;
  StageParameters parameters_;
  std::unique_ptr<Memory> memory_;
  View loss_sums_;
  bool training_ = true;
  bool last_micro_batch_ = false;
  int num_micro_batches_ = 0;
  std::function<const SampleBatch&()> next_batch_;
  std::function<void(int)> gradient_ready_;
};

// The rotary table [P, D] of a model, into host memory.
void fill_rope_table(const ModelConfig& config, View table);

}  // namespace terroir
