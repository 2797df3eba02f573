// Attention through cuDNN: for bf16 on GPUs where it has a kernel for the case. Callers ask
// cudnn_attention_supports() first and have kernels of their own for everything else.
//
// cuDNN cannot read positions and document ids: inputs.known_documents must say what they hold. Keys must be
// the queries' own (no cache, no context parallelism).
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

struct CudnnAttentionOptions {
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

// Of args.workspace. REQUIRES: supported.
std::int64_t cudnn_attention_workspace_bytes(OpContext& ctx, const AttentionForwardArgs& args,
                                             const CudnnAttentionOptions& options);
std::int64_t cudnn_attention_workspace_bytes(OpContext& ctx, const AttentionBackwardArgs& args,
                                             const CudnnAttentionOptions& options);

// args.workspace: 256-byte aligned, of the size above. REQUIRES: supported.
void attention_forward_cudnn(OpContext& ctx, const AttentionForwardArgs& args,
                             const CudnnAttentionOptions& options);
void attention_backward_cudnn(OpContext& ctx, const AttentionBackwardArgs& args,
                              const CudnnAttentionOptions& options);

// "cuDNN 9.19.0", of the library that was loaded.
std::string cudnn_attention_name();

}  // namespace terroir::cuda
