#include "trainer/model/stage_memory.h"

#include "kernels/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/rms_norm/rms_norm.h"
#include "trainer/model/document_starts.h"

namespace terroir {

void StageModel::Memory::lay_out(const ModelConfig& config, const StageParameters& parameters,
                                 const StageOptions& options, const TensorRegion& region, OpContext& ctx) {
  const std::int64_t batch = options.micro_batch_size, sequence = options.sequence_length;
  const std::int64_t tokens = batch * sequence, hidden = config.hidden_size;
  const std::int64_t documents = max_documents(batch, sequence);
  const std::int64_t local = region.local_tokens().size();
  const LayerShape& shape = parameters.shape;
  const std::int64_t num_layers = parameters.layout.last_layer - parameters.layout.first_layer;
  using Dims = std::initializer_list<std::int64_t>;
  const auto f32 = [](Arena& arena, Dims dims) { return arena.allocate(DType::kF32, dims); };
  const auto act = [&](Arena& arena, Dims dims) { return arena.allocate(options.dtypes.compute, dims); };

  slots.reset();
  slot.clear();
  slot.resize(static_cast<std::size_t>(options.num_slots));
  for (Slot& s : slot) {
    s.ids = slots.allocate(DType::kI32, {4 * tokens + batch + documents + 1});
    const auto part = [&](std::int64_t index) {
      return s.ids.slice(0, index * tokens, (index + 1) * tokens);
    };
    s.tokens = part(0);
    s.targets = part(1);
    s.positions = part(2).reshape({batch, sequence});
    s.documents = part(3).reshape({batch, sequence});
    s.source = s.ids.slice(0, 4 * tokens, 4 * tokens + batch);
    s.document_starts = s.ids.slice(0, 4 * tokens + batch, s.ids.numel());
    s.input = act(slots, {local, hidden});
    if (!parameters.layout.has_head) s.output = act(slots, {local, hidden});
    s.gradient = act(slots, {local, hidden});
    for (std::int64_t layer = 0; layer < num_layers; ++layer) {
      if (options.recompute)
        s.layer_inputs.push_back(layer == 0 ? s.input : act(slots, {local, hidden}));
      else
        s.layers.push_back(allocate_saved(slots, shape, batch, sequence, local));
    }
    if (!parameters.layout.has_head) continue;
    s.final_residual = act(slots, {local, hidden});
    s.final_rstd = f32(slots, {local});
    s.final_normed = act(slots, {local, hidden});
    s.head_gradient = act(slots, {local, hidden});
    s.losses = f32(slots, {tokens});
  }

  scratch_arena.reset();
  attention = plan_attention(ctx, shape, batch, sequence, documents);
  scratch = allocate_scratch(scratch_arena, shape, batch, sequence, local, attention.workspace_bytes);
  if (options.recompute) recomputed = allocate_saved(scratch_arena, shape, batch, sequence, local);
  delta = act(scratch_arena, {local, hidden});
  rope_table = f32(scratch_arena, {sequence, config.head_dim});
  norm_workspace = scratch_arena.allocate(DType::kU8, {rms_norm_backward_workspace(local, hidden)});
  if (parameters.layout.has_head) {
    const std::int64_t largest_part = (config.vocab_size + region.size() - 1) / region.size();
    const Device device = scratch_arena.device();
    head_chunk = linear_cross_entropy_chunk_tokens(tokens, largest_part, device);
    head_workspace = scratch_arena.allocate(
        DType::kU8, {linear_cross_entropy_workspace_bytes(head_chunk, parameters.vocab.size(), hidden,
                                                          options.dtypes.compute, device)});
    vocab_statistics = f32(scratch_arena, {region.size(), 3, head_chunk});
    token_bytes = scratch_arena.allocate(DType::kI32, {config.vocab_size});
  }
}

void StageModel::Memory::make_staging(int num_micro_batches) {
  const Device device = slots.device();
  if (device == Device{}) return;
  const std::int64_t count = slot[0].ids.numel();
  staging = Buffer::pinned(num_micro_batches * count * 4, device);
  for (int i = 0; i < num_micro_batches; ++i)
    staged.push_back({staging.view(DType::kI32, {count}, i * count * 4), Event(device)});
}

}  // namespace terroir
