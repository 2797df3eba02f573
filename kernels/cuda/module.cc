// What libterroir_cuda.so offers the program: the table of ops and the runtime.
#include "kernels/adamw/adamw.h"
#include "kernels/attention/attention.h"
#include "kernels/cuda/cuda_error.h"
#include "kernels/cuda/runtime.h"
#include "kernels/embedding/embedding.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/loss_sums/loss_sums.h"
#include "kernels/matmul/matmul.h"
#include "kernels/op_table.h"
#include "kernels/qk_norm_rope/qk_norm_rope.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/squared_norm/squared_norm.h"
#include "kernels/step_scalars/step_scalars.h"
#include "kernels/swiglu/swiglu.h"
#include "kernels/tensor/cuda_module.h"
#include "kernels/tensor/elementwise.h"

namespace terroir::cuda {
namespace {

constexpr OpTable kCudaOps = {
    .copy = cuda::copy,
    .cast = cuda::cast,
    .add = cuda::add,
    .scale = cuda::scale,
    .fill = cuda::fill,
    .matmul = cuda::matmul,
    .attention_forward = cuda::attention_forward,
    .attention_backward = cuda::attention_backward,
    .attention_merge = cuda::attention_merge,
    .attention_forward_workspace = cuda::attention_forward_workspace,
    .attention_backward_workspace = cuda::attention_backward_workspace,
    .linear_cross_entropy = cuda::linear_cross_entropy,
    .merge_vocab_statistics = cuda::merge_vocab_statistics,
    .embedding_forward = cuda::embedding_forward,
    .embedding_backward = cuda::embedding_backward,
    .rms_norm_forward = cuda::rms_norm_forward,
    .rms_norm_backward = cuda::rms_norm_backward,
    .qk_norm_rope_forward = cuda::qk_norm_rope_forward,
    .qk_norm_rope_backward = cuda::qk_norm_rope_backward,
    .rope_apply = cuda::rope_apply,
    .swiglu_forward = cuda::swiglu_forward,
    .swiglu_backward = cuda::swiglu_backward,
    .adamw = cuda::adamw,
    .squared_norm = cuda::squared_norm,
    .loss_sums = cuda::loss_sums,
    .step_scalars = cuda::step_scalars,
};

}  // namespace
}  // namespace terroir::cuda

const terroir::CudaModule* terroir_cuda_module() {
  static terroir::cuda::Runtime runtime;
  static const terroir::CudaModule module = {
      .build = terroir::cuda_build(), .ops = &terroir::cuda::kCudaOps, .runtime = &runtime};
  terroir::set_cuda_module(module);
  return &module;
}
