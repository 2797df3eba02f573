// The CUDA backend's own attention kernels, by the hardware they use. Arguments are checked; see attention.h.
#pragma once

#include "kernels/attention/attention.h"

namespace terroir::cuda {

// On plain CUDA cores: every dtype, head size and stride. Deterministic. The backward computes the scores
// twice, once for dK and dV and once for dQ (seven products instead of five), so that no sum depends on the
// order of blocks.
void attention_forward_simt(OpContext& ctx, const AttentionForwardArgs& args);
void attention_backward_simt(OpContext& ctx, const AttentionBackwardArgs& args);

}  // namespace terroir::cuda
