// The CUDA backend's own attention kernels, by the hardware they use. Arguments are checked; see attention.h.
#pragma once

#include "kernels/attention/attention.h"

namespace terroir::cuda {

// The best of the kernels below for the case. Deterministic: no sum depends on the order of blocks.
void attention_forward_own(OpContext& ctx, const AttentionForwardArgs& args);
void attention_backward_own(OpContext& ctx, const AttentionBackwardArgs& args);

// Whether the tensor-core kernels compute this: bf16, D a multiple of 8, every row of D elements aligned to
// 16 bytes, and a GPU that has the shared memory (forward_mma_shared_bytes, backward_mma_shared_bytes; up to
// D = 128 every one from compute capability 8.0 on).
bool attention_mma_takes(const AttentionForwardArgs& args);
bool attention_mma_takes(const AttentionBackwardArgs& args);

// On tensor cores (mma.sync). REQUIRES: attention_mma_takes(). Weights exp(s - max), and in the backward d
// loss / d s, are rounded to bf16 before the products with them. As below, the backward takes seven products
// instead of five.
void attention_forward_mma(OpContext& ctx, const AttentionForwardArgs& args);
void attention_backward_mma(OpContext& ctx, const AttentionBackwardArgs& args);
std::int64_t attention_forward_mma_shared_bytes(std::int64_t head_size);
std::int64_t attention_backward_mma_shared_bytes(std::int64_t head_size);

// On plain CUDA cores: every dtype, head size and stride. The backward computes the scores twice, once for dK
// and dV and once for dQ (seven products instead of five), so that no sum depends on the order of blocks.
void attention_forward_simt(OpContext& ctx, const AttentionForwardArgs& args);
void attention_backward_simt(OpContext& ctx, const AttentionBackwardArgs& args);

}  // namespace terroir::cuda
