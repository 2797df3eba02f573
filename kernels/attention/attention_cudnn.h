// Attention through cuDNN: for bf16 on GPUs where it has a kernel for the case. Callers ask
// cudnn_attention_supports() first and have kernels of their own for everything else.
//
// cuDNN cannot read positions and document ids. What they hold has to be known to the host:
//   one_per_row     every row is one document at positions 0, 1, .. T-1
//   starts          documents lie one after another in the tokens of all rows, row after row; none crosses a
//   row's end, and
//                   positions ascend by one inside each. starts[i] is the first token (0 to B T) of document
//                   i, starts[n] = B T after the last, and B T again in what is left. A loader knows these
//                   when it packs a batch; the size of `starts` is fixed for a run, since each size is a plan
//                   of its own, and a batch of more documents than that goes to other kernels.
// Neither: not supported. Keys must be the queries' own (no cache, no context parallelism).
//
// Memory. A deterministic backward on Hopper with cuDNN < 9.25 takes 2 Hq ceil64(T) ceil128(T) bytes of
// workspace for each sequence computed at once: 512 MiB for 16 heads and T = 4096. Dense rows are therefore
// computed one after another, in the space of one. Packed documents are computed together and each is given T
// x T: beyond a few documents that is too much, the more so as SM 8.x refuses it outright; let other kernels
// do it, or give deterministic = false (linear in T; dq then differs in rounding from run to run).
#pragma once

#include <string>

#include "kernels/attention/attention.h"

namespace terroir::cuda {

struct AttentionDocuments {
  bool one_per_row = false;
  ConstView starts;  // i32 [max_documents + 1], on the device
};

struct CudnnAttentionOptions {
  AttentionDocuments documents;
  bool deterministic = true;  // the forward always is
  // What needs more counts as not supported.
  std::int64_t max_workspace_bytes = std::int64_t{1} << 30;
};

// Whether the call below would be computed; if not, *reason is a sentence. Memory is not touched, views of
// planned shapes without memory will do. The first question of a kind makes the plan, which takes the host up
// to seconds; it is kept in ctx.
bool cudnn_attention_supports(OpContext& ctx, const AttentionForwardArgs& args,
                              const CudnnAttentionOptions& options, std::string* reason);
bool cudnn_attention_supports(OpContext& ctx, const AttentionBackwardArgs& args,
                              const CudnnAttentionOptions& options, std::string* reason);

// Of `workspace` below. REQUIRES: supported.
std::int64_t cudnn_attention_workspace_bytes(OpContext& ctx, const AttentionForwardArgs& args,
                                             const CudnnAttentionOptions& options);
std::int64_t cudnn_attention_workspace_bytes(OpContext& ctx, const AttentionBackwardArgs& args,
                                             const CudnnAttentionOptions& options);

// As attention_forward() and attention_backward(), except that dk and dv are overwritten, not added to.
// workspace: u8, 256-byte aligned; args.workspace is not used. REQUIRES: supported.
void attention_forward_cudnn(OpContext& ctx, const AttentionForwardArgs& args,
                             const CudnnAttentionOptions& options, const View& workspace);
void attention_backward_cudnn(OpContext& ctx, const AttentionBackwardArgs& args,
                              const CudnnAttentionOptions& options, const View& workspace);

}  // namespace terroir::cuda
