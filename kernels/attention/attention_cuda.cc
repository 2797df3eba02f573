// Which kernel computes an attention on CUDA.
#include <initializer_list>

#include "kernels/attention/attention_own.h"
#include "kernels/cuda/cuda_error.h"

namespace terroir::cuda {
namespace {

constexpr std::int64_t kAlignment = 16, kAlignedElements = kAlignment / 2;

bool has_aligned_rows(const ConstView& x) {
  bool aligned = x.dtype() == DType::kBF16 && x.size(3) % kAlignedElements == 0 &&
                 reinterpret_cast<std::uintptr_t>(x.raw()) % kAlignment == 0;
  for (int dim = 0; dim < 3; ++dim) aligned = aligned && x.stride(dim) % kAlignedElements == 0;
  return aligned;
}

bool have_aligned_rows(std::initializer_list<ConstView> views) {
  for (const ConstView& view : views)
    if (!has_aligned_rows(view)) return false;
  return true;
}

bool has_shared_memory(const ConstView& on, std::int64_t bytes) {
  int available = 0;
  check(cudaDeviceGetAttribute(&available, cudaDevAttrMaxSharedMemoryPerBlockOptin, on.device().index),
        "cudaDeviceGetAttribute");
  return bytes <= available;
}

}  // namespace

bool attention_mma_takes(const AttentionForwardArgs& args) {
  const ConstView& q = args.inputs.q;
  return have_aligned_rows({q, args.inputs.k, args.inputs.v, args.o}) &&
         has_shared_memory(q, attention_forward_mma_shared_bytes(q.size(3)));
}

bool attention_mma_takes(const AttentionBackwardArgs& args) {
  const ConstView& q = args.inputs.q;
  return have_aligned_rows({q, args.inputs.k, args.inputs.v, args.o, args.dout, args.dq, args.dk, args.dv}) &&
         has_shared_memory(q, attention_backward_mma_shared_bytes(q.size(3)));
}

void attention_forward_own(OpContext& ctx, const AttentionForwardArgs& args) {
  return attention_mma_takes(args) ? attention_forward_mma(ctx, args) : attention_forward_simt(ctx, args);
}

void attention_backward_own(OpContext& ctx, const AttentionBackwardArgs& args) {
  return attention_mma_takes(args) ? attention_backward_mma(ctx, args) : attention_backward_simt(ctx, args);
}

void attention_forward(OpContext& ctx, const AttentionForwardArgs& args) { attention_forward_own(ctx, args); }

void attention_backward(OpContext& ctx, const AttentionBackwardArgs& args) {
  attention_backward_own(ctx, args);
}

}  // namespace terroir::cuda
