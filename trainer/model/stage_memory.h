// The activation memory of a stage: everything a step touches besides parameters, laid out before the first
// step.
#pragma once

#include <vector>

#include "kernels/tensor/device.h"
#include "trainer/model/layer_attention.h"
#include "trainer/model/stage_model.h"

namespace terroir {

// One micro-batch in flight. Shape letters as in decoder_layer.h.
struct StageModel::Slot {
  View ids;                   // i32 [4T + B + documents + 1]: the six below, as one message from the host
  View tokens, targets;       // i32 [T]
  View positions, documents;  // i32 [B, S]
  View source;                // i32 [B]
  View document_starts;       // i32 [documents + 1], of max_documents()
  AttentionDocuments known_documents;  // of the micro-batch in the slot
  View input, output;                  // [L, H]: what the stage receives (or embeds) and sends
  View gradient;                   // [L, H]: arrives from the next stage, becomes that of `input` in place
  std::vector<SavedLayer> layers;  // one a layer; with recomputation only the inputs are kept
  std::vector<View> layer_inputs;  // [L, H] each, with recomputation
  View final_residual, final_rstd, final_normed;  // [L, H], f32 [L], [L, H]; last stage
  View head_gradient;                             // [L, H]: of final_normed
  View losses;                                    // f32 [T]
};

// Where the host writes a micro-batch's ids. As many as a step has micro-batches, so that within a step the
// host never waits for the device to have read one.
struct StageModel::StagedIds {
  View ids;    // page-locked memory like Slot::ids
  Event read;  // by the transfer
};

struct StageModel::Memory {
  explicit Memory(Device device) : slots(device), scratch_arena(device) {}

  Arena slots, scratch_arena;
  std::vector<Slot> slot;
  Buffer staging;
  std::vector<StagedIds> staged;  // in `staging`; none on the CPU, where the slots' ids are host memory
  LayerScratch scratch;
  SavedLayer recomputed;        // the one layer being recomputed
  View delta;                   // [L, H]
  View norm_workspace;          // u8
  View head_workspace;          // u8
  View vocab_statistics;        // f32 [tensor ranks, 3, chunk], gathered
  View token_bytes;             // i32 [vocabulary], or empty
  View rope_table;              // [S, D]
  std::int64_t head_chunk = 1;  // tokens whose logits exist at a time; equal on all tensor ranks

  AttentionPlan attention;

  // Lays everything out: in planning arenas this only measures.
  void lay_out(const ModelConfig& config, const StageParameters& parameters, const StageOptions& options,
               const TensorRegion& region, OpContext& ctx);
  // After lay_out with memory: the host's side of what is transferred.
  void make_staging(int num_micro_batches);
};

}  // namespace terroir
