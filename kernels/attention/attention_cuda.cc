// Which kernel computes an attention on CUDA.
#include <algorithm>
#include <initializer_list>
#include <limits>
#include <optional>

#include "kernels/attention/attention_cudnn.h"
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

namespace {

// Nothing: own kernels are taken, *reason says why.
template <class Args>
std::optional<CudnnAttentionOptions> cudnn_options(OpContext& ctx, const Args& args, std::string* reason) {
  using Kernels = AttentionPolicy::Kernels;
  const Kernels wanted = ctx.cache<AttentionPolicy>().kernels;
  CudnnAttentionOptions options = {.deterministic = ctx.deterministic};
  if (wanted == Kernels::kCudnn) options.max_workspace_bytes = std::numeric_limits<std::int64_t>::max();
  if (wanted == Kernels::kOwn) {
    *reason = "they are asked for";
  } else if (cudnn_attention_supports(ctx, args, options, reason)) {
    return options;
  }
  return std::nullopt;
}

template <class Args>
AttentionKernels own_kernels(const Args& args, const std::string& reason) {
  const bool mma = attention_mma_takes(args);
  return {.cudnn = false,
          .name = mma ? "Terroir's tensor-core kernels" : "Terroir's kernels without tensor cores",
          .reason = reason};
}

template <class Args>
std::int64_t cudnn_workspace(OpContext& ctx, const Args& args, AttentionKernels* kernels) {
  std::string reason;
  const auto options = cudnn_options(ctx, args, &reason);
  if (kernels != nullptr)
    *kernels = options ? AttentionKernels{.cudnn = true, .name = cudnn_attention_name(), .reason = {}}
                       : own_kernels(args, reason);
  return options ? cudnn_attention_workspace_bytes(ctx, args, *options) : 0;
}

}  // namespace

std::int64_t attention_forward_workspace(OpContext& ctx, const AttentionForwardArgs& args,
                                         AttentionKernels* kernels) {
  return cudnn_workspace(ctx, args, kernels);
}

std::int64_t attention_backward_workspace(OpContext& ctx, const AttentionBackwardArgs& args,
                                          AttentionKernels* kernels) {
  const std::int64_t own = attention_backward_workspace_bytes(attention_sizes(args.inputs), ctx.num_threads);
  return std::max(own, cudnn_workspace(ctx, args, kernels));
}

void attention_forward(OpContext& ctx, const AttentionForwardArgs& args) {
  std::string reason;
  if (const auto options = cudnn_options(ctx, args, &reason))
    attention_forward_cudnn(ctx, args, *options);
  else
    attention_forward_own(ctx, args);
}

void attention_backward(OpContext& ctx, const AttentionBackwardArgs& args) {
  std::string reason;
  if (const auto options = cudnn_options(ctx, args, &reason))
    attention_backward_cudnn(ctx, args, *options);
  else
    attention_backward_own(ctx, args);
}

}  // namespace terroir::cuda
