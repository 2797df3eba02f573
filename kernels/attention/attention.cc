#include "kernels/attention/attention.h"

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {
namespace {

void check_inputs(const ArgumentCheck& check, const AttentionInputs& inputs) {
  const auto& [q, k, v, positions_q, positions_k, documents_q, documents_k, options] = inputs;
  check.tensor("q", q, DType::kF32, {kAnySize, kAnySize, kAnySize, kAnySize});
  const std::int64_t batch = q.size(0), num_queries = q.size(1), num_q_heads = q.size(2),
                     head_size = q.size(3);
  check.tensor("k", k, DType::kF32, {batch, kAnySize, kAnySize, head_size});
  check.same_shape("v", v, DType::kF32, k);
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
  check.require(options.q_head_offset + num_q_heads <= num_kv_heads * options.q_heads_per_kv,
                "{} query heads from head {} on need more than {} key/value heads of {} each", num_q_heads,
                options.q_head_offset, num_kv_heads, options.q_heads_per_kv);
}

void check_lse(const ArgumentCheck& check, const char* name, const ConstView& lse, const ConstView& q) {
  check.tensor(name, lse, DType::kF32, {q.size(0), q.size(2), q.size(1)});
}

}  // namespace

void attention_forward(OpContext& ctx, const AttentionForwardArgs& args) {
  const ArgumentCheck check("attention_forward", ctx);
  check_inputs(check, args.inputs);
  check.same_shape("o", args.o, DType::kF32, args.inputs.q);
  check_lse(check, "lse", args.lse, args.inputs.q);
  op_table(ctx.stream.device()).attention_forward(ctx, args);
}

void attention_backward(OpContext& ctx, const AttentionBackwardArgs& args) {
  const ArgumentCheck check("attention_backward", ctx);
  const AttentionInputs& inputs = args.inputs;
  check_inputs(check, inputs);
  check.same_shape("o", args.o, DType::kF32, inputs.q);
  check_lse(check, "lse", args.lse, inputs.q);
  check.same_shape("dout", args.dout, DType::kF32, inputs.q);
  check.same_shape("dq", args.dq, DType::kF32, inputs.q);
  check.same_shape("dk", args.dk, DType::kF32, inputs.k);
  check.same_shape("dv", args.dv, DType::kF32, inputs.k);
  check.workspace(args.workspace,
                  attention_backward_workspace_bytes(inputs.k.size(1), inputs.k.size(3), ctx.num_threads));
  op_table(ctx.stream.device()).attention_backward(ctx, args);
}

void attention_merge(OpContext& ctx, const AttentionMergeArgs& args) {
  const ArgumentCheck check("attention_merge", ctx);
  check.tensor("o_a", args.o_a, DType::kF32, {kAnySize, kAnySize, kAnySize, kAnySize});
  check.same_shape("o_b", args.o_b, DType::kF32, args.o_a);
  check_lse(check, "lse_a", args.lse_a, args.o_a);
  check_lse(check, "lse_b", args.lse_b, args.o_a);
  op_table(ctx.stream.device()).attention_merge(ctx, args);
}

}  // namespace terroir
