// The last linear layer and the cross-entropy loss in one op: logits = x w^T exist for one chunk of tokens at
// a time, and the gradients of x and w are computed in the same call, from the chunk's logits, without
// computing these twice.
//
//   loss[t] = log(sum_v exp(logits[t, v])) - logits[t, targets[t]]                    nats, unscaled
//   dx[t]   = grad_scale * sum_v (softmax(logits[t])[v] - [v == targets[t]]) w[v]     over the LOCAL v
//   dw[v]  += grad_scale * sum_t (softmax(logits[t])[v] - [v == targets[t]]) x[t]
#pragma once

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

// A target that counts for nothing: its loss is 0, its dx is 0, and it adds nothing to dw.
constexpr std::int32_t kIgnoredTarget = -1;

// What ranks that split the vocabulary tell each other: called once per chunk of n tokens with this rank's
//   statistics f32 [3, n] = largest logit; sum_v exp(logit - largest); target's logit, -inf if the target is
//   elsewhere
// contiguous, in memory of the context's device, to be replaced in place by those of all ranks: a gather
// followed by merge_vocab_statistics. On CUDA they are there once the work enqueued before is complete, and
// what replaces them must be enqueued on the context's stream: neither the op nor the callback waits. An
// exception from it passes through the op; outputs of earlier chunks have then been written.
struct VocabExchange {
  void (*merge)(void* user, const View& statistics) = nullptr;
  void* user = nullptr;
};

// x, w, dx and dw may have strided rows; nothing overlaps. T is f32 or bf16, the same for x, w and dx. With
// bf16 the logits are rounded to bf16 before the softmax, and the gradients by the logits before their two
// products; all else is f32.
struct LinearCrossEntropyArgs {
  ConstView x;        // T [T, H]
  ConstView w;        // T [V, H]: rows vocab_begin .. vocab_begin + V - 1 of the whole vocabulary, V >= 1
  ConstView targets;  // i32 [T]: numbers in the whole vocabulary, or kIgnoredTarget
  View loss;          // f32 [T], overwritten
  View dx;            // T [T, H], overwritten; without dx and dw only the loss is computed
  View dw;            // f32 [V, H], added to
  View workspace;     // u8 [linear_cross_entropy_workspace_bytes(...)]; its contents do not matter
  std::int64_t chunk_tokens = 0;  // >= 1; ranks that share an exchange must agree on it
  std::int64_t vocab_begin = 0;
  float grad_scale = 1;
  VocabExchange exchange = {};  // of all ranks that split the vocabulary; none: this rank has all of it
};

// A target outside the vocabulary of all ranks gives the loss +inf. Deterministic for a fixed
// ctx.num_threads, shape and chunk_tokens. Throws ContractError on wrong shapes, dtypes or devices, before
// anything is written.
void linear_cross_entropy(OpContext& ctx, const LinearCrossEntropyArgs& args);

// A good chunk_tokens for the largest `vocab_size` of any rank.
std::int64_t linear_cross_entropy_chunk_tokens(std::int64_t num_tokens, std::int64_t vocab_size,
                                               Device device = {});
std::int64_t linear_cross_entropy_workspace_bytes(std::int64_t chunk_tokens, std::int64_t vocab_size,
                                                  std::int64_t hidden_size, DType dtype = DType::kF32,
                                                  Device device = {});

// merged [3, n] = the statistics over the whole vocabulary, from those of each rank, gathered: [ranks, 3, n].
// Both contiguous, f32.
struct MergeVocabStatisticsArgs {
  ConstView gathered;
  View merged;
};
void merge_vocab_statistics(OpContext& ctx, const ConstView& gathered, const View& merged);

namespace cpu {
void linear_cross_entropy(OpContext& ctx, const LinearCrossEntropyArgs& args);
void linear_cross_entropy_bf16(OpContext& ctx, const LinearCrossEntropyArgs& args);
std::int64_t linear_cross_entropy_f32_workspace_bytes(std::int64_t chunk_tokens, std::int64_t vocab_size,
                                                      std::int64_t hidden_size);
void merge_vocab_statistics(OpContext& ctx, const MergeVocabStatisticsArgs& args);
}  // namespace cpu
namespace cuda {
void linear_cross_entropy(OpContext& ctx, const LinearCrossEntropyArgs& args);
void merge_vocab_statistics(OpContext& ctx, const MergeVocabStatisticsArgs& args);
}  // namespace cuda

}  // namespace terroir
