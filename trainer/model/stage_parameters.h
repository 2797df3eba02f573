// The parameters of one pipeline stage: built once per rank, seen by the model as named views.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "trainer/model/decoder_layer.h"

namespace terroir {

// Which part of the model a pipeline stage computes.
struct StageLayout {
  std::int64_t first_layer = 0, last_layer = 0;  // [first, last), global numbers
  bool has_embedding = true, has_head = true;
};
// `layers_per_stage`: empty divides the layers as evenly as possible.
StageLayout stage_layout(const ModelConfig& config, int num_stages, int stage,
                         std::span<const std::int64_t> layers_per_stage);

// Weights, or gradients.
struct StageTensors {
  View embedding;  // [V, H], rows of this tensor rank's part of the vocabulary
  std::vector<LayerTensors> layers;
  View final_norm;  // [H]
  View head;        // [V, H]; the embedding itself if tied and on the same stage
};

struct StageParameters {
  StageLayout layout;
  LayerShape shape;
  Range vocab;  // this tensor rank's rows of the vocabulary
  ParameterTable table;
  // Blocks, for who wants to know which gradients are complete.
  int embedding_block = -1, final_norm_block = -1, head_block = -1;
  std::vector<LayerBlocks> layer_blocks;
  StageTensors gradients;

  // Weights. Each call waits for what it hands out, which may still be on its way from the ranks that updated
  // it (ParameterTable::gather). Layers are counted from the stage's first.
  std::size_t num_layers() const { return layer_blocks.size(); }
  View embedding_weight() { return arrived(embedding_block, weights_.embedding); }  // [V, H]
  const LayerTensors& layer_weights(std::size_t layer);
  View final_norm_weight() { return arrived(final_norm_block, weights_.final_norm); }  // [H]
  View head_weight() { return arrived(head_block, weights_.head); }                    // [V, H]
  void set_weights(StageTensors weights) { weights_ = std::move(weights); }

 private:
  View arrived(int block, View weight) {
    table.wait_for(block);
    return weight;
  }
  StageTensors weights_;
};

// Collective over the mesh. What has no memory has no views.
StageParameters make_stage_parameters(const ModelConfig& config, const StageLayout& layout, Mesh& mesh,
                                      bool sequence_parallel, std::int64_t bucket_bytes,
                                      const ParameterStorage& storage);

}  // namespace terroir
