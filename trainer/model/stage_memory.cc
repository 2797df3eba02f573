#include "trainer/model/stage_memory.h"

#include "kernels/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/rms_norm/rms_norm.h"

namespace terroir {

void StageModel::Memory::lay_out(const ModelConfig& config, const StageParameters& parameters,
                                 const StageOptions& options, const TensorRegion& region, int num_threads) {
  const std::int64_t batch = options.micro_batch_size, sequence = options.sequence_length;
  const std::int64_t tokens = batch * sequence, hidden = config.hidden_size;
  const std::int64_t local = region.local_tokens().size();
  const LayerShape& shape = parameters.shape;
  const std::int64_t num_layers = parameters.layout.last_layer - parameters.layout.first_layer;
  const auto f32 = [](Arena& arena, std::initializer_list<std::int64_t> dims) {
    return arena.allocate(DType::kF32, dims);
  };

  slots.reset();
  slot.assign(static_cast<std::size_t>(options.num_slots), Slot());
  for (Slot& s : slot) {
    s.tokens = slots.allocate(DType::kI32, {tokens});
    s.targets = slots.allocate(DType::kI32, {tokens});
    s.positions = slots.allocate(DType::kI32, {batch, sequence});
    s.documents = slots.allocate(DType::kI32, {batch, sequence});
    s.source.resize(static_cast<std::size_t>(batch));
    s.input = f32(slots, {local, hidden});
    if (!parameters.layout.has_head) s.output = f32(slots, {local, hidden});
    s.gradient = f32(slots, {local, hidden});
    for (std::int64_t layer = 0; layer < num_layers; ++layer) {
      if (options.recompute)
        s.layer_inputs.push_back(layer == 0 ? s.input : f32(slots, {local, hidden}));
      else
        s.layers.push_back(allocate_saved(slots, shape, batch, sequence, local));
    }
    if (!parameters.layout.has_head) continue;
    s.final_residual = f32(slots, {local, hidden});
    s.final_rstd = f32(slots, {local});
    s.final_normed = f32(slots, {local, hidden});
    s.head_gradient = f32(slots, {local, hidden});
    s.losses = f32(slots, {tokens});
  }

  scratch_arena.reset();
  scratch = allocate_scratch(scratch_arena, shape, batch, sequence, local, num_threads);
  if (options.recompute) recomputed = allocate_saved(scratch_arena, shape, batch, sequence, local);
  delta = f32(scratch_arena, {local, hidden});
  rope_table = f32(scratch_arena, {sequence, config.head_dim});
  norm_workspace = scratch_arena.allocate(DType::kU8, {rms_norm_backward_workspace(local, hidden)});
  if (parameters.layout.has_head) {
    const std::int64_t largest_part = (config.vocab_size + region.size() - 1) / region.size();
    head_chunk = linear_cross_entropy_chunk_tokens(tokens, largest_part);
    head_workspace = scratch_arena.allocate(
        DType::kU8, {linear_cross_entropy_workspace_bytes(head_chunk, parameters.vocab.size(), hidden)});
    vocab_statistics = f32(scratch_arena, {region.size(), 3, head_chunk});
  }
}

}  // namespace terroir
