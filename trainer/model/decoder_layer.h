// One decoder layer of the Llama family (Llama, Qwen2, Qwen3), as one tensor-parallel rank computes it.
//
//   r1 = residual + delta              q, k, v = split(norm(r1) Wqkv^T (+ b));  q, k normed per head (Qwen3),
//   rotated delta1 = attention(q, k, v) Wo^T   r2 = r1 + delta1 delta2 = swiglu(norm(r2) Wg^T, norm(r2) Wu^T)
//   Wd^T      next layer: residual = r2, delta = delta2
//
// Shape letters: T tokens of the micro-batch (B sequences of S), L of them local to this tensor rank between
// layers, H hidden size, N query and K key/value heads of this rank, D head dimension, I intermediate columns
// of this rank.
#pragma once

#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/tensor/buffer.h"
#include "kernels/tensor/op_context.h"
#include "trainer/config/model_config.h"
#include "trainer/model/parameters.h"
#include "trainer/model/tensor_region.h"

namespace terroir {

// What this tensor rank computes of each layer.
struct LayerShape {
  std::int64_t hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, intermediate = 0;
  std::int64_t heads_per_kv = 1;  // of the whole model
  std::int64_t head_offset = 0;   // query heads by which this rank's first head is into its first group
  std::int64_t kv_begin = 0;      // first key/value head, of the whole model
  bool kv_replicated = false;  // tensor ranks do not divide the key/value heads: each holds all their weights
  bool qkv_bias = false, qk_norm = false;
  ReduceScope norm_scope = ReduceScope::kReplicated;  // of norms between layers
  float eps = 1e-5f;
  DType dtype = DType::kF32;             // of weights, activations and their gradients; statistics are f32
  DType matrix_gradients = DType::kF32;  // of the gradients of weight matrices

  std::int64_t query_columns() const { return heads * head_dim; }
  std::int64_t kv_columns() const { return kv_heads * head_dim; }
  std::int64_t qkv_columns() const { return query_columns() + 2 * kv_columns(); }
  // Throws UserError when tensor_size does not divide the attention heads.
  static LayerShape of(const ModelConfig& config, int tensor_size, int tensor_rank, bool sequence_parallel);
};

// A linear map to columns [column, column + out) of the fused qkv activation.
struct Projection {
  View weight;  // [out, H]
  View bias;    // [out], optional
  std::int64_t column = 0;
};

// A layer's weights, or its gradients: views of the flat buffers.
struct LayerTensors {
  View input_norm;              // [H]
  std::vector<Projection> qkv;  // one fused map, or three where key/value weights are replicated
  View q_norm, k_norm;          // [D], Qwen3
  View o;                       // [H, N*D]
  View post_norm;               // [H]
  View gate_up;                 // [2I, H]: gate rows, then up rows
  View down;                    // [H, I]
};

// The blocks of one layer in the parameter table.
struct LayerBlocks {
  int down, gate_up, post_norm, o, input_norm;
  std::vector<int> qkv, qkv_bias;
  int q_norm = -1, k_norm = -1;
};
// visit(block) in the order in which backward completes their gradients.
template <class Visit>
void for_each_block(const LayerBlocks& blocks, Visit visit) {
  for (const int block : {blocks.down, blocks.gate_up, blocks.post_norm, blocks.o}) visit(block);
  for (const int block : {blocks.q_norm, blocks.k_norm})
    if (block >= 0) visit(block);
  for (const int block : blocks.qkv_bias) visit(block);
  for (const int block : blocks.qkv) visit(block);
  visit(blocks.input_norm);
}
// Adds the blocks of layer `index` (global number) in reverse order of use.
LayerBlocks add_layer_blocks(ParameterTable& table, const ModelConfig& config, const LayerShape& shape,
                             int index, int tensor_size, int tensor_rank);
LayerTensors layer_weights(ParameterTable& table, const LayerBlocks& blocks, const LayerShape& shape);
LayerTensors layer_gradients(const ParameterTable& table, const LayerBlocks& blocks, const LayerShape& shape);

// What forward keeps for backward.
struct SavedLayer {
  View residual1, rstd1, y1;  // [L, H], [L], [L, H]
  View qkv;                   // [T, (N+2K)*D], rotated
  View qk_before_norm;        // [T, N+K, D], Qwen3
  View qk_rstd;               // [T, N+K], Qwen3
  View attention_out, lse;    // [T, N*D], [B, N, S]
  View residual2, rstd2, y2;  // [L, H], [L], [L, H]
  View gate_up, activated;    // [T, 2I], [T, I]
};
SavedLayer allocate_saved(Arena& arena, const LayerShape& shape, std::int64_t batch, std::int64_t sequence,
                          std::int64_t local_tokens);

// Memory shared by all layers of a rank, overwritten by each.
struct LayerScratch {
  View gathered, gathered_gradient, partial;  // [T, H]
  View wide_gradient;                         // [T * max(2I, (N+2K)*D)]
  View narrow_gradient;                       // [T * max(I, N*D)]
  View norm_gradient;                         // [L, H]
  View ones;                                  // [1, T], all 1: bias gradients as matrix products
  View workspace;                             // u8, of ops

  // [T, columns] in the memory above, contiguous: rows are aligned if their own length is.
  View wide(std::int64_t columns) const { return rows(wide_gradient, columns); }
  View narrow(std::int64_t columns) const { return rows(narrow_gradient, columns); }

 private:
  View rows(const View& memory, std::int64_t columns) const {
    const std::int64_t tokens = ones.size(1);
    return memory.slice(0, 0, tokens * columns).reshape({tokens, columns});
  }
};
// attention_bytes: of workspace that attention needs.
LayerScratch allocate_scratch(Arena& arena, const LayerShape& shape, std::int64_t batch,
                              std::int64_t sequence, std::int64_t local_tokens, std::int64_t attention_bytes);

// The keys and values of earlier tokens, for generation. Each [B, capacity, K, D]; `length` are filled.
struct KvCache {
  View keys, values;
  View positions, documents;  // i32 [B, capacity]
  std::int64_t length = 0;
};

// What does not change from layer to layer.
struct LayerEnvironment {
  OpContext& ctx;
  const LayerShape& shape;
  const TensorRegion& region;
  LayerScratch& scratch;
  ConstView rope_table;            // f32 [P, D]
  ConstView positions, documents;  // i32 [B, S]
  AttentionDocuments known_documents = {};
};

// Reads residual [L, H] and, unless it is empty, delta [L, H]; leaves the layer's output as saved.residual2
// plus delta_out (which may be delta). With a cache, appends this micro-batch's keys and values to it and
// attends to all that it holds. Collective over the tensor group.
void decoder_forward(const LayerEnvironment& env, const LayerTensors& weights, View residual, View delta,
                     View delta_out, SavedLayer& saved, KvCache* cache = nullptr);

// gradient [L, H]: in, of the layer's output sum; out, of its input sum. Weight gradients are added to
// `gradients`. Collective over the tensor group.
void decoder_backward(const LayerEnvironment& env, const LayerTensors& weights, const LayerTensors& gradients,
                      const SavedLayer& saved, View gradient);

}  // namespace terroir
