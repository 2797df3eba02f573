#include "kernels/attention/attention.h"

#include <algorithm>

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {
namespace {

void check_known_documents(const ArgumentCheck& check, const AttentionDocuments& known) {
  const ConstView& starts = known.starts;
  if (!starts) return;
  check.tensor("known_documents.starts", starts, DType::kI32, {kAnySize});
  check.require(starts.size(0) >= 2, "known_documents.starts are {}, must have 2 or more", starts);
}

void check_inputs(const ArgumentCheck& check, const AttentionInputs& inputs) {
  const auto& [q, k, v, positions_q, positions_k, documents_q, documents_k, options, known] = inputs;
  const DType dtype = q.dtype();
  check.require(dtype == DType::kF32 || dtype == DType::kBF16, "q is {}, its dtype must be f32 or bf16", q);
  check.tensor("q", q, dtype, {kAnySize, kAnySize, kAnySize, kAnySize});
  const std::int64_t batch = q.size(0), num_queries = q.size(1), num_q_heads = q.size(2),
                     head_size = q.size(3);
  check.tensor("k", k, dtype, {batch, kAnySize, kAnySize, head_size});
  check.same_shape("v", v, dtype, k);
  const std::int64_t num_keys = k.size(1), num_kv_heads = k.size(2);
  check.tensor("positions_q", positions_q, DType::kI32, {batch, num_queries});
  check.tensor("documents_q", documents_q, DType::kI32, {batch, num_queries});
  check.tensor("positions_k", positions_k, DType::kI32, {batch, num_keys});
  check.tensor("documents_k", documents_k, DType::kI32, {batch, num_keys});
  check.require(head_size >= 1 && head_size <= kAttentionMaxHeadSize, "head size {}, must be 1 to {}",
                head_size, kAttentionMaxHeadSize);
  check.require(options.q_heads_per_kv >= 1 && options.q_head_offset >= 0,
                "{} query heads per key/value head from head {}", options.q_heads_per_kv,
                options.q_head_offset);
  check_known_documents(check, known);
  check.require(options.q_head_offset + num_q_heads <= num_kv_heads * options.q_heads_per_kv,
                "{} query heads from head {} on need more than {} key/value heads of {} each", num_q_heads,
                options.q_head_offset, num_kv_heads, options.q_heads_per_kv);
}

void check_lse(const ArgumentCheck& check, const char* name, const ConstView& lse, const ConstView& q) {
  check.tensor(name, lse, DType::kF32, {q.size(0), q.size(2), q.size(1)});
}

}  // namespace

AttentionSizes attention_sizes(const AttentionInputs& inputs) {
  return {.batch = inputs.q.size(0),
          .num_queries = inputs.q.size(1),
          .num_heads = inputs.q.size(2),
          .num_keys = inputs.k.size(1),
          .head_size = inputs.q.size(3)};
}

std::int64_t attention_workspace_bytes(OpContext& ctx, const AttentionForwardArgs& args,
                                       AttentionKernels* kernels) {
  return op_table(ctx.stream.device()).attention_forward_workspace(ctx, args, kernels);
}

std::int64_t attention_workspace_bytes(OpContext& ctx, const AttentionBackwardArgs& args,
                                       AttentionKernels* kernels) {
  return op_table(ctx.stream.device()).attention_backward_workspace(ctx, args, kernels);
}

namespace cpu {
std::int64_t attention_forward_workspace(OpContext&, const AttentionForwardArgs&, AttentionKernels* kernels) {
  if (kernels != nullptr) *kernels = {.cudnn = false, .name = "the CPU's kernels", .reason = {}};
  return 0;
}
std::int64_t attention_backward_workspace(OpContext& ctx, const AttentionBackwardArgs& args,
                                          AttentionKernels* kernels) {
  if (kernels != nullptr) *kernels = {.cudnn = false, .name = "the CPU's kernels", .reason = {}};
  return terroir::attention_backward_workspace_bytes(attention_sizes(args.inputs), ctx.num_threads);
}
}  // namespace cpu

std::int64_t attention_backward_workspace_bytes(const AttentionSizes& sizes, int num_threads) {
  const std::int64_t row_sums =
      sizes.batch * sizes.num_heads * sizes.num_queries * dtype_bytes(DType::kF32);  // CUDA
  return std::max(cpu::attention_backward_workspace_bytes(sizes, num_threads), row_sums);
}

void attention_forward(OpContext& ctx, const AttentionForwardArgs& args) {
  const ArgumentCheck check("attention_forward", ctx);
  check_inputs(check, args.inputs);
  check.same_shape("o", args.o, args.inputs.q.dtype(), args.inputs.q);
  check_lse(check, "lse", args.lse, args.inputs.q);
  check.workspace(args.workspace, attention_workspace_bytes(ctx, args));
  op_table(ctx.stream.device()).attention_forward(ctx, args);
}

void attention_backward(OpContext& ctx, const AttentionBackwardArgs& args) {
  const ArgumentCheck check("attention_backward", ctx);
  const AttentionInputs& inputs = args.inputs;
  check_inputs(check, inputs);
  check.same_shape("o", args.o, inputs.q.dtype(), inputs.q);
  check_lse(check, "lse", args.lse, inputs.q);
  check.same_shape("dout", args.dout, inputs.q.dtype(), inputs.q);
  check.same_shape("dq", args.dq, inputs.q.dtype(), inputs.q);
  check.same_shape("dk", args.dk, inputs.q.dtype(), inputs.k);
  check.same_shape("dv", args.dv, inputs.q.dtype(), inputs.k);
  check.workspace(args.workspace, attention_workspace_bytes(ctx, args));
  op_table(ctx.stream.device()).attention_backward(ctx, args);
}

void attention_merge(OpContext& ctx, const AttentionMergeArgs& args) {
  const ArgumentCheck check("attention_merge", ctx);
  const DType dtype = args.o_a.dtype();
  check.require(dtype == DType::kF32 || dtype == DType::kBF16, "o_a is {}, its dtype must be f32 or bf16",
                args.o_a);
  check.tensor("o_a", args.o_a, dtype, {kAnySize, kAnySize, kAnySize, kAnySize});
  check.same_shape("o_b", args.o_b, dtype, args.o_a);
  check_lse(check, "lse_a", args.lse_a, args.o_a);
  check_lse(check, "lse_b", args.lse_b, args.o_a);
  op_table(ctx.stream.device()).attention_merge(ctx, args);
}

}  // namespace terroir
