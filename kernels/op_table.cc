#include "kernels/op_table.h"

#include "kernels/adamw/adamw.h"
#include "kernels/attention/attention.h"
#include "kernels/embedding/embedding.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/loss_sums/loss_sums.h"
#include "kernels/matmul/matmul.h"
#include "kernels/qk_norm_rope/qk_norm_rope.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/squared_norm/squared_norm.h"
#include "kernels/step_scalars/step_scalars.h"
#include "kernels/swiglu/swiglu.h"
#include "kernels/tensor/cuda_module.h"
#include "kernels/tensor/elementwise.h"

namespace terroir {
namespace {

constexpr OpTable kCpuOps = {
    .copy = cpu::copy,
    .cast = cpu::cast,
    .add = cpu::add,
    .scale = cpu::scale,
    .fill = cpu::fill,
    .matmul = cpu::matmul,
    .attention_forward = cpu::attention_forward,
    .attention_backward = cpu::attention_backward,
    .attention_merge = cpu::attention_merge,
    .attention_forward_workspace = cpu::attention_forward_workspace,
    .attention_backward_workspace = cpu::attention_backward_workspace,
    .linear_cross_entropy = cpu::linear_cross_entropy,
    .merge_vocab_statistics = cpu::merge_vocab_statistics,
    .embedding_forward = cpu::embedding_forward,
    .embedding_backward = cpu::embedding_backward,
    .rms_norm_forward = cpu::rms_norm_forward,
    .rms_norm_backward = cpu::rms_norm_backward,
    .qk_norm_rope_forward = cpu::qk_norm_rope_forward,
    .qk_norm_rope_backward = cpu::qk_norm_rope_backward,
    .rope_apply = cpu::rope_apply,
    .swiglu_forward = cpu::swiglu_forward,
    .swiglu_backward = cpu::swiglu_backward,
    .adamw = cpu::adamw,
    .squared_norm = cpu::squared_norm,
    .loss_sums = cpu::loss_sums,
    .step_scalars = cpu::step_scalars,
};

}  // namespace

const OpTable& op_table(Device device) {
  return device.kind == DeviceKind::kCuda ? *cuda_module().ops : kCpuOps;
}

}  // namespace terroir
