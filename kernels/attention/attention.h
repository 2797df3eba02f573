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
// are i32. Sums are f32, rounded once when stored. CUDA's tensor-core kernels also round exp(s - max) and d
// loss / d s to bf16 before the products with them. Views may be strided (pieces of a fused QKV activation, a
// cache). Outputs share no memory with inputs or each other. Results do not depend on ctx.num_threads and are
// the same on every run, except that with ctx.deterministic = false CUDA may take a backward whose dq differs
// in rounding from run to run. Wrong shapes, dtypes or devices throw ContractError before anything is
// written. NaN in what a query sees reaches its output; keys and values it does not see must be finite if
// they lie among keys that other queries see (0 times NaN is NaN).
//
// On CUDA, cuDNN computes what it can where the host knows the documents, Terroir's own kernels the rest;
// o and lse mean the same in both, a backward takes either's. See attention_cudnn.h.
#pragma once

#include <string>

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

struct AttentionOptions {
  float scale = 1;
  std::int64_t q_heads_per_kv = 1;
  std::int64_t q_head_offset = 0;
};

// What the host knows of `documents` and `positions`: cuDNN cannot read these. By default nothing.
//   one_per_row     every row is one document at positions 0, 1, .. T-1
//   starts          documents lie one after another in the tokens of all rows, row after row; none crosses a
//                   row's end, and positions ascend by one inside each. starts[i] is the first token (0 to
//                   B T) of document i, starts[n] = B T after the last, and B T again in what is left. The
//                   size of `starts` is fixed for a run: each size is a plan of its own.
struct AttentionDocuments {
  bool one_per_row = false;
  ConstView starts;  // i32 [max_documents + 1], on the device
};

struct AttentionInputs {
  ConstView q;                         // [B, Tq, Hq, D], D <= kAttentionMaxHeadSize
  ConstView k, v;                      // [B, Tk, Hkv, D]
  ConstView positions_q, positions_k;  // i32 [B, Tq], [B, Tk]
  ConstView documents_q, documents_k;  // i32 [B, Tq], [B, Tk]
  AttentionOptions options;
  AttentionDocuments known_documents = {};  // of queries and keys alike; agrees with the four above
};
constexpr std::int64_t kAttentionMaxHeadSize = 256;

struct AttentionForwardArgs {
  AttentionInputs inputs;
  View o;    // [B, Tq, Hq, D], overwritten
  View lse;  // [B, Hq, Tq], overwritten
  // u8 [attention_workspace_bytes(...)]; its contents do not matter. None where documents are not known.
  View workspace = {};
};

// o and lse are the final ones: with keys in several parts (ring attention), those of the merged result; each
// part then gives its share of dq, and its own dk and dv.
struct AttentionBackwardArgs {
  AttentionInputs inputs;
  ConstView o, lse;  // as the forward left them
  ConstView dout;    // [B, Tq, Hq, D]
  View dq;           // [B, Tq, Hq, D], overwritten
  View dk, dv;       // [B, Tk, Hkv, D], overwritten
  View workspace;    // u8 [attention_workspace_bytes(...)]; its contents do not matter
};

// Partial results over two disjoint sets of keys become the result over both, in place in (o_a, lse_a).
struct AttentionMergeArgs {
  View o_a, lse_a;       // [B, Tq, Hq, D], [B, Hq, Tq]
  ConstView o_b, lse_b;  // the same shapes
};

// Which kernels CUDA's attention takes: set before it is first asked or called, kept in ctx.
struct AttentionPolicy {
  static constexpr const char* kName = "attention";
  // kAuto: cuDNN's where it has one that needs no more than 1 GiB of workspace, else own. kCudnn: cuDNN's
  // whatever workspace it needs, else own.
  enum class Kernels : std::uint8_t { kAuto, kCudnn, kOwn } kernels = Kernels::kAuto;
};

// Who would compute a call, for people.
struct AttentionKernels {
  bool cudnn = false;
  std::string name;    // "cuDNN 9.19.0"
  std::string reason;  // a sentence, where CUDA takes its own: why not cuDNN's
};

// Of args.workspace on ctx's device. Memory is not touched, views of planned shapes without memory will do.
// The first question of a kind makes cuDNN's plan, which takes the host up to seconds: ask before the first
// step. `kernels`: if given, who would compute it.
std::int64_t attention_workspace_bytes(OpContext& ctx, const AttentionForwardArgs& args,
                                       AttentionKernels* kernels = nullptr);
std::int64_t attention_workspace_bytes(OpContext& ctx, const AttentionBackwardArgs& args,
                                       AttentionKernels* kernels = nullptr);

struct AttentionSizes {
  std::int64_t batch = 0, num_queries = 0, num_heads = 0, num_keys = 0, head_size = 0;
};
AttentionSizes attention_sizes(const AttentionInputs& inputs);
// Of a backward without known documents: enough for every backend.
std::int64_t attention_backward_workspace_bytes(const AttentionSizes& sizes, int num_threads);

void attention_forward(OpContext& ctx, const AttentionForwardArgs& args);
void attention_backward(OpContext& ctx, const AttentionBackwardArgs& args);
void attention_merge(OpContext& ctx, const AttentionMergeArgs& args);

namespace cpu {
// Threads share out (batch, key/value head, block of queries); the backward (batch, key/value head). Scratch
// lies on the stack: up to 300 KiB a thread.
void attention_forward(OpContext& ctx, const AttentionForwardArgs& args);
void attention_backward(OpContext& ctx, const AttentionBackwardArgs& args);
void attention_merge(OpContext& ctx, const AttentionMergeArgs& args);
std::int64_t attention_backward_workspace_bytes(const AttentionSizes& sizes, int num_threads);
std::int64_t attention_forward_workspace(OpContext& ctx, const AttentionForwardArgs& args,
                                         AttentionKernels* kernels);
std::int64_t attention_backward_workspace(OpContext& ctx, const AttentionBackwardArgs& args,
                                          AttentionKernels* kernels);
}  // namespace cpu
namespace cuda {
void attention_forward(OpContext& ctx, const AttentionForwardArgs& args);
void attention_backward(OpContext& ctx, const AttentionBackwardArgs& args);
void attention_merge(OpContext& ctx, const AttentionMergeArgs& args);
std::int64_t attention_forward_workspace(OpContext& ctx, const AttentionForwardArgs& args,
                                         AttentionKernels* kernels);
std::int64_t attention_backward_workspace(OpContext& ctx, const AttentionBackwardArgs& args,
                                          AttentionKernels* kernels);
}  // namespace cuda

}  // namespace terroir
