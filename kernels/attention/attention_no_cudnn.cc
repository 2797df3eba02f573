// Where there is no cuDNN: nothing is supported.
#include "kernels/attention/attention_cudnn.h"

namespace terroir::cuda {
namespace {

constexpr const char* kReason = "the CUDA module was built without cuDNN";

bool refuse(std::string* reason) {
  *reason = kReason;
  return false;
}

[[noreturn]] void fail() { throw ContractError(kReason); }

}  // namespace

bool cudnn_attention_supports(OpContext&, const AttentionForwardArgs&, const CudnnAttentionOptions&,
                              std::string* reason) {
  return refuse(reason);
}
bool cudnn_attention_supports(OpContext&, const AttentionBackwardArgs&, const CudnnAttentionOptions&,
                              std::string* reason) {
  return refuse(reason);
}

std::int64_t cudnn_attention_workspace_bytes(OpContext&, const AttentionForwardArgs&,
                                             const CudnnAttentionOptions&) {
  fail();
}
std::int64_t cudnn_attention_workspace_bytes(OpContext&, const AttentionBackwardArgs&,
                                             const CudnnAttentionOptions&) {
  fail();
}

void attention_forward_cudnn(OpContext&, const AttentionForwardArgs&, const CudnnAttentionOptions&) {
  fail();
}
void attention_backward_cudnn(OpContext&, const AttentionBackwardArgs&, const CudnnAttentionOptions&) {
  fail();
}

std::string cudnn_attention_name() { return "cuDNN"; }

}  // namespace terroir::cuda
