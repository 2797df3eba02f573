// The attention of a decoder layer: which tensors it reads and writes, who computes it, in what memory.
#pragma once

#include <string>

#include "kernels/attention/attention.h"
#include "trainer/model/decoder_layer.h"

namespace terroir {

// saved.attention_out and saved.lse from saved.qkv. With a cache, this micro-batch's keys and values are
// appended to it and all that it holds is attended to.
void layer_attention_forward(const LayerEnvironment& env, const SavedLayer& saved, KvCache* cache);
// dqkv [T, (N+2K)*D], overwritten, from dout [T, N*D].
void layer_attention_backward(const LayerEnvironment& env, const SavedLayer& saved, View dout, View dqkv);

struct AttentionPlan {
  std::int64_t workspace_bytes = 0;  // of forward and backward, whatever the host knows of documents
  // Which kernels compute it, and why: "cuDNN 9.19.0 (1 MiB of workspace)". Empty on the CPU.
  std::string description;
  std::string refusal;  // why what ctx's policy asks for cannot be had; empty: it can
};
// For micro-batches of `batch` sequences, of one document each or with a table of `max_documents`. Makes the
// plans that steps will use, which may take seconds; they stay in ctx.
AttentionPlan plan_attention(OpContext& ctx, const LayerShape& shape, std::int64_t batch,
                             std::int64_t sequence, std::int64_t max_documents);

}  // namespace terroir
