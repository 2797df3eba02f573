// Causal grouped-query attention over packed documents, forward and backward, in blocks: no [Tq, Tk] matrix
// exists.
//
//   B batch, Tq queries, Tk keys, Hq query heads, Hkv key/value heads, D head size
//
// A query sees the keys of its own document whose position is not after its own:
//   visible(i, j) = documents_k[j] == documents_q[i] && positions_k[j] <= positions_q[i]
//   s[i, j]  = scale * <q[i], k[j]>                over the visible j
//   lse[i]   = log(sum_j exp(s[i, j]))             natural logarithm
//   o[i]     = sum_j exp(s[i, j] - lse[i]) v[j]
// A query that sees no key gets o = 0 and lse = -inf. Queries and keys are told apart by positions and
// documents only, so they may have different lengths (generation with a cache), any order and gaps (zig-zag
// context parallelism). Blocks of keys that no query of a block sees are skipped: sorted causal input costs
// half of T^2, documents less.
//
// Query head h of this rank uses key/value head (h + q_head_offset) / q_heads_per_kv: with few key/value
// heads, a tensor rank's query heads may begin inside the group of its first key/value head.
//
// Queries, keys, values, o and their gradients are all f32 or all bf16; lse is f32; positions and documents
// are i32. Sums are f32, rounded once when stored; added to bf16 dk and dv, the sum is rounded once more.
// CUDA's tensor-core kernels also round exp(s - max) and d loss / d s to bf16 before the products with them.
// Views may be strided (pieces of a fused QKV activation, a cache). Outputs share no memory with inputs or
// each other. Results do not depend on ctx.num_threads and are the same on every run. Wrong shapes, dtypes or
// devices throw ContractError before anything is written. NaN in what a query sees reaches its output; keys
// and values it does not see must be finite if they lie among keys that other queries see (0 times NaN is
// NaN).
#pragma once

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

struct AttentionOptions {
  float scale = 1;
  std::int64_t q_heads_per_kv = 1;
  std::int64_t q_head_offset = 0;
};

struct AttentionInputs {
  ConstView q;                         // [B, Tq, Hq, D], D <= kAttentionMaxHeadSize
  ConstView k, v;                      // [B, Tk, Hkv, D]
  ConstView positions_q, positions_k;  // i32 [B, Tq], [B, Tk]
  ConstView documents_q, documents_k;  // i32 [B, Tq], [B, Tk]
  AttentionOptions options;
};
constexpr std::int64_t kAttentionMaxHeadSize = 256;

struct AttentionForwardArgs {
  AttentionInputs inputs;
  View o;    // [B, Tq, Hq, D], overwritten
  View lse;  // [B, Hq, Tq], overwritten
};

// o and lse are the final ones: with keys in several parts (ring attention), those of the merged result; each
// part then gives its share of the gradients.
struct AttentionBackwardArgs {
  AttentionInputs inputs;
  ConstView o, lse;  // as the forward left them
  ConstView dout;    // [B, Tq, Hq, D]
  View dq;           // [B, Tq, Hq, D], overwritten
  View dk, dv;       // [B, Tk, Hkv, D], added to
  View workspace;    // u8 [attention_backward_workspace_bytes(...)]; its contents do not matter
};

// Partial results over two disjoint sets of keys become the result over both, in place in (o_a, lse_a).
struct AttentionMergeArgs {
  View o_a, lse_a;       // [B, Tq, Hq, D], [B, Hq, Tq]
  ConstView o_b, lse_b;  // the same shapes
};

void attention_forward(OpContext& ctx, const AttentionForwardArgs& args);
struct AttentionSizes {
  std::int64_t batch = 0, num_queries = 0, num_heads = 0, num_keys = 0, head_size = 0;
};
// Enough for every backend.
std::int64_t attention_backward_workspace_bytes(const AttentionSizes& sizes, int num_threads);
void attention_backward(OpContext& ctx, const AttentionBackwardArgs& args);
void attention_merge(OpContext& ctx, const AttentionMergeArgs& args);

namespace cpu {
// Threads share out (batch, key/value head, block of queries); the backward (batch, key/value head). Scratch
// lies on the stack: up to 300 KiB a thread.
void attention_forward(OpContext& ctx, const AttentionForwardArgs& args);
void attention_backward(OpContext& ctx, const AttentionBackwardArgs& args);
void attention_merge(OpContext& ctx, const AttentionMergeArgs& args);
std::int64_t attention_backward_workspace_bytes(const AttentionSizes& sizes, int num_threads);
}  // namespace cpu
namespace cuda {
void attention_forward(OpContext& ctx, const AttentionForwardArgs& args);
void attention_backward(OpContext& ctx, const AttentionBackwardArgs& args);
void attention_merge(OpContext& ctx, const AttentionMergeArgs& args);
}  // namespace cuda

}  // namespace terroir
