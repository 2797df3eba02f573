#include "trainer/model/stage_parameters.h"

namespace terroir {
namespace {

int add_vocabulary_block(StageParameters& stage, const ModelConfig& config, const char* name,
                         ReduceScope scope) {
  return stage.table.add(scope, true,
                         {{name,
                           {config.vocab_size, config.hidden_size},
                           {{stage.vocab.begin, 0}, {stage.vocab.size(), config.hidden_size}}}});
}

StageTensors make_views(StageParameters& stage, const ModelConfig& config, bool gradients) {
  ParameterTable& table = stage.table;
  const auto view = [&](int block, std::int64_t columns) {
    return block < 0 ? View() : gradients ? table.grad(block, columns) : table.param(block, columns);
  };
  StageTensors tensors;
  tensors.embedding = view(stage.embedding_block, config.hidden_size);
  tensors.final_norm = view(stage.final_norm_block, 0);
  tensors.head = view(stage.head_block, config.hidden_size);
  for (const LayerBlocks& blocks : stage.layer_blocks)
    tensors.layers.push_back(gradients ? layer_gradients(table, blocks, stage.shape)
                                       : terroir::layer_weights(table, blocks, stage.shape));
  return tensors;
}

}  // namespace

StageLayout stage_layout(const ModelConfig& config, int num_stages, int stage,
                         std::span<const std::int64_t> layers_per_stage) {
  StageLayout layout{.has_embedding = stage == 0, .has_head = stage == num_stages - 1};
  if (layers_per_stage.empty()) {
    const Range layers = split_range(config.num_hidden_layers, num_stages, stage);
    layout.first_layer = layers.begin;
    layout.last_layer = layers.end;
    return layout;
  }
  for (int s = 0; s < stage; ++s) layout.first_layer += layers_per_stage[s];
  layout.last_layer = layout.first_layer + layers_per_stage[stage];
  return layout;
}

const LayerTensors& StageParameters::layer_weights(std::size_t layer) {
  for_each_block(layer_blocks[layer], [&](int block) { table.wait_for(block); });
  return weights_.layers[layer];
}

StageParameters make_stage_parameters(const ModelConfig& config, const StageLayout& layout, Mesh& mesh,
                                      bool sequence_parallel, std::int64_t bucket_bytes,
                                      const ParameterStorage& storage) {
  const int tensor_size = mesh.size(Axis::kTensor), tensor_rank = mesh.coordinate(Axis::kTensor);
  StageParameters stage;
  stage.layout = layout;
  stage.shape = LayerShape::of(config, tensor_size, tensor_rank, sequence_parallel);
  stage.shape.dtype = storage.dtypes.compute;
  stage.shape.matrix_gradients = storage.dtypes.gradients;
  stage.vocab = split_range(config.vocab_size, tensor_size, tensor_rank);

  const bool tied = config.tie_word_embeddings;
  const bool one_stage = layout.has_embedding && layout.has_head;
  const ReduceScope embedding_scope = tied && !one_stage ? ReduceScope::kTied : ReduceScope::kData;
  if (layout.has_head) {
    stage.final_norm_block =
        stage.table.add(stage.shape.norm_scope, false,
                        {{"model.norm.weight", {config.hidden_size}, {{0}, {config.hidden_size}}}});
    if (!tied) stage.head_block = add_vocabulary_block(stage, config, "lm_head.weight", ReduceScope::kData);
    if (tied && !one_stage)
      stage.head_block = add_vocabulary_block(stage, config, "model.embed_tokens.weight", ReduceScope::kTied);
  }
  stage.layer_blocks.resize(static_cast<std::size_t>(layout.last_layer - layout.first_layer));
  for (std::int64_t layer = layout.last_layer - 1; layer >= layout.first_layer; --layer)
    stage.layer_blocks[static_cast<std::size_t>(layer - layout.first_layer)] =
        add_layer_blocks(stage.table, config, stage.shape, static_cast<int>(layer), tensor_size, tensor_rank);
  if (layout.has_embedding) {
    stage.embedding_block = add_vocabulary_block(stage, config, "model.embed_tokens.weight", embedding_scope);
    if (tied && one_stage) stage.head_block = stage.embedding_block;
  }
  stage.table.finish(mesh, bucket_bytes, storage);
  if (storage.memory != ParameterMemory::kNone) stage.set_weights(make_views(stage, config, false));
  if (storage.memory == ParameterMemory::kParametersAndGradients)
    stage.gradients = make_views(stage, config, true);
  return stage;
}

}  // namespace terroir
