// Which kernel computes an attention on CUDA.
#include "kernels/attention/attention_own.h"

namespace terroir::cuda {

void attention_forward(OpContext& ctx, const AttentionForwardArgs& args) {
  attention_forward_simt(ctx, args);
}

void attention_backward(OpContext& ctx, const AttentionBackwardArgs& args) {
  attention_backward_simt(ctx, args);
}

}  // namespace terroir::cuda
