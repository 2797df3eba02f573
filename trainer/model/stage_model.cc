#include "trainer/model/stage_model.h"

#include <algorithm>

#include "kernels/embedding/embedding.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/loss_sums/loss_sums.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/tensor/elementwise.h"
#include "trainer/model/document_starts.h"
#include "trainer/model/stage_memory.h"

namespace terroir {
namespace {

TensorRegion make_region(Mesh& mesh, const StageOptions& options) {
  return {mesh.group({Axis::kTensor}, Queue::kTensor), options.sequence_parallel,
          options.micro_batch_size * options.sequence_length};
}

std::int64_t parameter_elements(const ParameterTable& table, bool shards_only) {
  std::int64_t n = 0;
  for (const ParamClass& c : table.classes())
    for (const ParamBucket& bucket : c.buckets)
      n += shards_only ? c.shard(bucket).size() : bucket.end - bucket.begin;
  return n;
}

}  // namespace

void fill_rope_table(const ModelConfig& config, View table) {
  const RopeScalingConfig& from = config.rope_scaling;
  RopeScaling scaling;
  if (from.rope_type == "llama3")
    scaling = {RopeScaling::Type::kLlama3, from.factor, from.low_freq_factor, from.high_freq_factor,
               from.original_max_position_embeddings};
  rope_table(rope_inverse_frequencies(config.rope_theta, config.head_dim, scaling), table);
}

StageModel::StageModel(const ModelConfig& config, const StageLayout& layout, const StageOptions& options,
                       Mesh& mesh, OpContext& ctx, std::span<const std::uint16_t> token_bytes)
    : config_(config),
      options_(options),
      ctx_(ctx),
      region_(make_region(mesh, options)),
      parameters_(make_stage_parameters(config, layout, mesh, options.sequence_parallel, options.bucket_bytes,
                                        {.memory = ParameterMemory::kParametersAndGradients,
                                         .dtypes = options.dtypes,
                                         .device = ctx.stream.device()})),
      memory_(std::make_unique<Memory>(ctx.stream.device())) {
  const auto lay_out = [&] { memory_->lay_out(config_, parameters_, options_, region_, ctx_); };
  lay_out();
  memory_->slots.reserve();
  memory_->scratch_arena.reserve();
  lay_out();
  memory_->make_staging(options.num_micro_batches);
  fill(ctx_, memory_->scratch.ones, 1);
  fill_tables(token_bytes);
}

void StageModel::fill_tables(std::span<const std::uint16_t> token_bytes) {
  const View rope = memory_->rope_table;
  Buffer host(rope.bytes());
  fill_rope_table(config_, host.view(DType::kF32, {rope.size(0), rope.size(1)}));
  transfer(ctx_.stream, host.view(DType::kF32, {rope.size(0), rope.size(1)}), rope);
  synchronize(ctx_.stream);
  if (!parameters_.layout.has_head) return;
  const View lengths = memory_->token_bytes;
  std::vector<std::int32_t> values(static_cast<std::size_t>(lengths.numel()),
                                   0);  // padding ids stand for no text
  std::copy(token_bytes.begin(), token_bytes.end(), values.begin());
  transfer(ctx_.stream, ConstView(values.data(), DType::kI32, {lengths.numel()}), lengths);
  synchronize(ctx_.stream);
}

StageModel::~StageModel() = default;

StageMemory StageModel::plan(const ModelConfig& config, const StageLayout& layout,
                             const StageOptions& options, Mesh& mesh, OpContext& ctx) {
  const TensorRegion region = make_region(mesh, options);
  const StageParameters parameters = make_stage_parameters(config, layout, mesh, options.sequence_parallel,
                                                           options.bucket_bytes, {.dtypes = options.dtypes});
  Memory memory{ctx.stream.device()};
  memory.lay_out(config, parameters, options, region, ctx);
  const std::int64_t all = parameter_elements(parameters.table, false);
  const ParameterDTypes& dtypes = options.dtypes;
  const std::int64_t master_bytes = dtypes.master == dtypes.compute ? 0 : dtype_bytes(dtypes.master);
  std::int64_t gradient_bytes = parameters.table.reduction_scratch_bytes();
  for (const ParamClass& c : parameters.table.classes())
    gradient_bytes += c.numel() * dtype_bytes(c.gradients);
  return {.parameters = all * dtype_bytes(dtypes.compute),
          .gradients = gradient_bytes,
          .optimizer_state = parameter_elements(parameters.table, true) * (8 + master_bytes),
          .activations = memory.slots.peak_bytes(),
          .scratch = memory.scratch_arena.peak_bytes(),
          .attention = memory.attention};
}

void StageModel::begin(bool training, int num_micro_batches, View loss_sums,
                       std::function<const SampleBatch&()> next_batch,
                       std::function<void(int)> gradient_ready) {
  training_ = training;
  num_micro_batches_ = num_micro_batches;
  next_batch_ = std::move(next_batch);
  gradient_ready_ = std::move(gradient_ready);
  loss_sums_ = loss_sums;
  if (!training) return;
  const ParameterTable& table = parameters_.table;
  for (const ParamClass& c : table.classes()) fill(ctx_, table.flat_grads(c, {0, c.numel()}), 0);
}

LayerEnvironment StageModel::environment(const Slot& slot) {
  return {ctx_,           parameters_.shape,   region_, memory_->scratch, memory_->rope_table, slot.positions,
          slot.documents, slot.known_documents};
}

void StageModel::load_batch(Slot& slot, int micro_batch) {
  const SampleBatch& batch = next_batch_();
  std::vector<StagedIds>& all = memory_->staged;
  StagedIds* staged = all.empty() ? nullptr : &all[static_cast<std::size_t>(micro_batch) % all.size()];
  if (staged != nullptr) staged->read.wait();
  const auto parts = {&batch.tokens, &batch.targets, &batch.positions, &batch.documents, &batch.source};
  std::size_t count = 0;
  for (const auto* ids : parts) count += ids->size();
  const std::int64_t expected = slot.ids.numel() - slot.document_starts.numel();
  TERROIR_CHECK(static_cast<std::int64_t>(count) == expected, "a batch of {} ids for a micro-batch of {}",
                count, expected);
  std::int32_t* to = (staged != nullptr ? staged->ids : slot.ids).data<std::int32_t>();
  for (const auto* ids : parts) to = std::copy(ids->begin(), ids->end(), to);
  const auto num_starts = static_cast<std::size_t>(slot.document_starts.numel());
  const DocumentLayout layout = find_documents(batch, {to, num_starts});
  slot.known_documents = {
      .one_per_row = layout == DocumentLayout::kOnePerRow,
      .starts = layout == DocumentLayout::kPacked ? ConstView(slot.document_starts) : ConstView()};
  if (staged == nullptr) return;
  transfer(ctx_.stream, staged->ids, slot.ids);
  staged->read.record(ctx_.stream);
}

void StageModel::embed(Slot& slot) {
  const View out = region_.partial(slot.input, memory_->scratch.partial);
  embedding_forward(ctx_, {.ids = slot.tokens,
                           .table = parameters_.embedding_weight(),
                           .vocab_begin = parameters_.vocab.begin,
                           .out = out});
  region_.reduce(out, slot.input, ctx_.stream, "embeddings");
}

// Leaves the stage's result in slot.output, or on the last stage normed in slot.final_*.
void StageModel::run_layers(Slot& slot) {
  const LayerEnvironment env = environment(slot);
  View residual = slot.input, delta;
  for (std::size_t i = 0; i < parameters_.num_layers(); ++i) {
    SavedLayer& saved = options_.recompute ? memory_->recomputed : slot.layers[i];
    if (options_.recompute && i > 0) {  // the layer's input must be one tensor to start from again
      add(ctx_, residual, delta, slot.layer_inputs[i]);
      residual = slot.layer_inputs[i];
      delta = View();
    }
    decoder_forward(env, parameters_.layer_weights(i), residual, delta, memory_->delta, saved);
    residual = saved.residual2;
    delta = memory_->delta;
  }
  if (!parameters_.layout.has_head) {
    if (delta)
      add(ctx_, residual, delta, slot.output);
    else
      copy(ctx_, residual, slot.output);
    return;
  }
  if (!delta) slot.final_residual = residual;
  rms_norm_forward(ctx_, {.x = residual,
                          .delta = delta,
                          .weight = parameters_.final_norm_weight(),
                          .eps = parameters_.shape.eps,
                          .residual_out = delta ? slot.final_residual : View(),
                          .y = slot.final_normed,
                          .rstd = slot.final_rstd});
}

void StageModel::head_forward(Slot& slot) {
  const View x = region_.gather(slot.final_normed, memory_->scratch.gathered, ctx_.stream, "final norm");
  const View dx = region_.partial(slot.head_gradient, memory_->scratch.partial);
  // Merges the softmax statistics of a chunk over the ranks that share the vocabulary.
  const auto exchange = [](void* user, const View& statistics) {
    auto& self = *static_cast<StageModel*>(user);
    const View all = self.memory_->vocab_statistics.reshape({self.memory_->vocab_statistics.numel()})
                         .slice(0, 0, self.region_.size() * statistics.numel())
                         .reshape({self.region_.size(), 3, statistics.size(1)});
    self.region_.group()
        .all_gather(statistics.reshape({1, 3, statistics.size(1)}), all, self.ctx_.stream, "loss statistics")
        .wait();
    merge_vocab_statistics(self.ctx_, all, statistics);
  };
  LinearCrossEntropyArgs args{.x = x,
                              .w = parameters_.head_weight(),
                              .targets = slot.targets,
                              .loss = slot.losses,
                              .workspace = memory_->head_workspace,
                              .chunk_tokens = memory_->head_chunk,
                              .vocab_begin = parameters_.vocab.begin};
  if (region_.size() > 1) args.exchange = {exchange, this};
  if (training_) {
    args.grad_scale = options_.loss_scale;
    args.dx = dx;
    args.dw = parameters_.gradients.head;
  }
  linear_cross_entropy(ctx_, args);
  if (training_) region_.reduce(dx, slot.head_gradient, ctx_.stream, "gradient of final norm");
  add_losses(slot);
}

void StageModel::add_losses(const Slot& slot) {
  if (region_.rank() != 0) return;  // every tensor rank has the same
  loss_sums(ctx_, {.loss = slot.losses,
                   .targets = slot.targets,
                   .source = slot.source,
                   .token_bytes = memory_->token_bytes,
                   .sums = loss_sums_});
}

void StageModel::forward(const Action& action) {
  Slot& slot = memory_->slot[static_cast<std::size_t>(action.slot)];
  enter(StepPart::kForward);
  load_batch(slot, action.micro_batch);
  if (parameters_.layout.has_embedding) embed(slot);
  run_layers(slot);
  if (parameters_.layout.has_head) {
    enter(StepPart::kLoss);
    head_forward(slot);
  }
  enter(StepPart::kCommunication);
}

void StageModel::head_backward(Slot& slot, View gradient) {
  rms_norm_backward(ctx_, {.dy = slot.head_gradient,
                           .dresidual = {},
                           .residual = slot.final_residual,
                           .weight = parameters_.final_norm_weight(),
                           .rstd = slot.final_rstd,
                           .dx = gradient,
                           .dweight = parameters_.gradients.final_norm,
                           .workspace = memory_->norm_workspace});
  ready(parameters_.final_norm_block);
  if (parameters_.head_block != parameters_.embedding_block) ready(parameters_.head_block);
}

void StageModel::embedding_backward(Slot& slot, View gradient) {
  const View dout =
      region_.gather(gradient, memory_->scratch.gathered_gradient, ctx_.stream, "gradient of embeddings");
  terroir::embedding_backward(ctx_, {.ids = slot.tokens,
                                     .dout = dout,
                                     .vocab_begin = parameters_.vocab.begin,
                                     .dtable = parameters_.gradients.embedding});
  ready(parameters_.embedding_block);
}

void StageModel::backward(const Action& action) {
  Slot& slot = memory_->slot[static_cast<std::size_t>(action.slot)];
  last_micro_batch_ = action.micro_batch == num_micro_batches_ - 1;
  enter(StepPart::kBackward);
  const LayerEnvironment env = environment(slot);
  const View gradient = slot.gradient;
  if (parameters_.layout.has_head) head_backward(slot, gradient);
  for (std::size_t i = parameters_.num_layers(); i-- > 0;) {
    const LayerTensors& weights = parameters_.layer_weights(i);
    if (options_.recompute)
      decoder_forward(env, weights, slot.layer_inputs[i], View(), memory_->delta, memory_->recomputed);
    decoder_backward(env, weights, parameters_.gradients.layers[i],
                     options_.recompute ? memory_->recomputed : slot.layers[i], gradient);
    for_each_block(parameters_.layer_blocks[i], [&](int block) { ready(block); });
  }
  if (parameters_.layout.has_embedding) embedding_backward(slot, gradient);
  enter(StepPart::kCommunication);
}

void StageModel::backward_input(const Action&) {
  TERROIR_CHECK(false, "this stage runs whole backward actions only");
}
void StageModel::backward_weight(const Action&) {
  TERROIR_CHECK(false, "this stage runs whole backward actions only");
}

void StageModel::reduce_grads(const Action&) {
  if (on_reduce_grads) on_reduce_grads();
}

View StageModel::activation_in(const Action& action) {
  return parameters_.layout.has_embedding ? View()
                                          : memory_->slot[static_cast<std::size_t>(action.slot)].input;
}
View StageModel::activation_out(const Action& action) {
  return memory_->slot[static_cast<std::size_t>(action.slot)].output;
}
View StageModel::gradient_in(const Action& action) {
  return parameters_.layout.has_head ? View() : memory_->slot[static_cast<std::size_t>(action.slot)].gradient;
}
View StageModel::gradient_out(const Action& action) {
  return parameters_.layout.has_embedding ? View()
                                          : memory_->slot[static_cast<std::size_t>(action.slot)].gradient;
}

void StageModel::ready(int block) {
  if (last_micro_batch_ && gradient_ready_) gradient_ready_(block);
}

}  // namespace terroir
