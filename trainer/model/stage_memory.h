// The activation memory of a stage: everything a step touches besides parameters, laid out before the first
// step.
#pragma once

#include <vector>

#include "trainer/model/stage_model.h"

namespace terroir {

// One micro-batch in flight. Shape letters as in decoder_layer.h.
struct StageModel::Slot {
  View tokens, targets;              // i32 [T]
  View positions, documents;         // i32 [B, S]
  std::vector<std::int32_t> source;  // [B]
  View input, output;                // [L, H]: what the stage receives (or embeds) and sends
  View gradient;                     // [L, H]: arrives from the next stage, becomes that of `input` in place
  std::vector<SavedLayer> layers;    // one a layer; with recomputation only the inputs are kept
  std::vector<View> layer_inputs;    // [L, H] each, with recomputation
  View final_residual, final_rstd, final_normed;  // [L, H], [L], [L, H]; last stage
  View head_gradient;                             // [L, H]: of final_normed
  View losses;                                    // [T]
};

struct StageModel::Memory {
  Arena slots, scratch_arena;
  std::vector<Slot> slot;
  LayerScratch scratch;
  SavedLayer recomputed;        // the one layer being recomputed
  View delta;                   // [L, H]
  View norm_workspace;          // u8
  View head_workspace;          // u8
  View vocab_statistics;        // [tensor ranks, 3, chunk], gathered
  View rope_table;              // [S, D]
  std::int64_t head_chunk = 1;  // tokens whose logits exist at a time; equal on all tensor ranks

  // Lays everything out: in planning arenas this only measures.
  void lay_out(const ModelConfig& config, const StageParameters& parameters, const StageOptions& options,
               const TensorRegion& region, int num_threads);
};

}  // namespace terroir
