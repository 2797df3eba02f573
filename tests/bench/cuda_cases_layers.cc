// Ops of a layer besides products and attention, and the embedding: bound by memory. Views as in the model
// (trainer/model/decoder_layer.cc).
#include <set>

#include "kernels/embedding/embedding.h"
#include "kernels/qk_norm_rope/qk_norm_rope.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/swiglu/swiglu.h"
#include "tests/bench/cuda_cases.h"

namespace terroir::bench {
namespace {

// With the residual addition before it, or plain.
Case rms_norm_forward_case(std::int64_t tokens, std::int64_t hidden, bool residual, DType dtype) {
  return {fmt::format("rms_norm_forward/{}/{}/{}x{}", residual ? "residual" : "plain", dtype_name(dtype),
                      tokens, hidden),
          [=](Memory& m) -> Operation {
            RmsNormForwardArgs args{.x = m.random(dtype, {tokens, hidden}),
                                    .weight = m.random(dtype, {hidden}),
                                    .eps = 1e-5F,
                                    .y = m.zeros(dtype, {tokens, hidden}),
                                    .rstd = m.zeros(DType::kF32, {tokens})};
            if (residual) {
              args.delta = m.random(dtype, {tokens, hidden});
              args.residual_out = m.zeros(dtype, {tokens, hidden});
            }
            return {
                {.bytes = bytes_of({args.x, args.delta, args.weight, args.residual_out, args.y, args.rstd})},
                [=](OpContext& ctx) { rms_norm_forward(ctx, args); }};
          }};
}

Case rms_norm_backward_case(std::int64_t tokens, std::int64_t hidden, bool residual, DType dtype) {
  return {fmt::format("rms_norm_backward/{}/{}/{}x{}", residual ? "residual" : "plain", dtype_name(dtype),
                      tokens, hidden),
          [=](Memory& m) -> Operation {
            RmsNormBackwardArgs args{.dy = m.random(dtype, {tokens, hidden}),
                                     .residual = m.random(dtype, {tokens, hidden}),
                                     .weight = m.random(dtype, {hidden}),
                                     .rstd = m.constant(DType::kF32, {tokens}, 1.7F),
                                     .dx = m.zeros(dtype, {tokens, hidden}),
                                     .dweight = m.zeros(DType::kF32, {hidden}),
                                     .workspace = m.workspace(rms_norm_backward_workspace(tokens, hidden))};
            if (residual) args.dresidual = m.random(dtype, {tokens, hidden});
            return {{.bytes = bytes_of({args.dy, args.dresidual, args.residual, args.weight, args.rstd,
                                        args.dx, args.dweight, args.dweight})},
                    [=](OpContext& ctx) { rms_norm_backward(ctx, args); }};
          }};
}

// f32 [S, D] on the device.
View angles(Memory& m, const ModelSizes& model) {
  const Buffer host(model.sequence * model.head_size * 4);
  const View table = host.view(DType::kF32, {model.sequence, model.head_size});
  if (!m.planning()) rope_table(rope_inverse_frequencies(10000, model.head_size, {}), table);
  return m.upload(table);
}

// Queries and keys [T, N + K, D] of a fused activation.
View queries_and_keys(Memory& m, const ModelSizes& model) {
  return m.random(DType::kBF16, {model.tokens(), model.qkv_columns()})
      .slice(1, 0, (model.heads + model.kv_heads) * model.head_size)
      .split(1, model.head_size);
}

std::string sizes_of_heads(const ModelSizes& model) {
  return fmt::format("bf16/{}x{}x{}", model.tokens(), model.heads + model.kv_heads, model.head_size);
}

Case qk_norm_rope_forward_case(const ModelSizes& model) {
  return {"qk_norm_rope_forward/" + sizes_of_heads(model), [=](Memory& m) -> Operation {
            const std::int64_t tokens = model.tokens(), heads = model.heads + model.kv_heads;
            const QkNormRopeForwardArgs args{
                .x = queries_and_keys(m, model),
                .query_heads = model.heads,
                .q_weight = m.random(DType::kBF16, {model.head_size}),
                .k_weight = m.random(DType::kBF16, {model.head_size}),
                .positions = m.ints(positions(tokens, model.sequence)),
                .table = angles(m, model),
                .eps = 1e-5F,
                .before = m.zeros(DType::kBF16, {tokens, heads, model.head_size}),
                .rstd = m.zeros(DType::kF32, {tokens, heads})};
            return {{.bytes = bytes_of({args.x, args.x, args.positions, args.table, args.before, args.rstd})},
                    [=](OpContext& ctx) { qk_norm_rope_forward(ctx, args); }};
          }};
}

Case qk_norm_rope_backward_case(const ModelSizes& model) {
  return {"qk_norm_rope_backward/" + sizes_of_heads(model), [=](Memory& m) -> Operation {
            const std::int64_t tokens = model.tokens(), heads = model.heads + model.kv_heads;
            const QkNormRopeBackwardArgs args{
                .dx = queries_and_keys(m, model),
                .query_heads = model.heads,
                .q_weight = m.random(DType::kBF16, {model.head_size}),
                .k_weight = m.random(DType::kBF16, {model.head_size}),
                .positions = m.ints(positions(tokens, model.sequence)),
                .table = angles(m, model),
                .before = m.random(DType::kBF16, {tokens, heads, model.head_size}),
                .rstd = m.constant(DType::kF32, {tokens, heads}, 1.7F),
                .dq_weight = m.zeros(DType::kF32, {model.head_size}),
                .dk_weight = m.zeros(DType::kF32, {model.head_size}),
                .workspace = m.workspace(qk_norm_rope_backward_workspace(model.head_size))};
            return {
                {.bytes = bytes_of({args.dx, args.dx, args.positions, args.table, args.before, args.rstd})},
                [=](OpContext& ctx) { qk_norm_rope_backward(ctx, args); }};
          }};
}

Case rope_case(const ModelSizes& model) {
  return {"rope_apply/" + sizes_of_heads(model), [=](Memory& m) -> Operation {
            const RopeArgs args{.x = queries_and_keys(m, model),
                                .positions = m.ints(positions(model.tokens(), model.sequence)),
                                .table = angles(m, model),
                                .inverse = false};
            return {{.bytes = bytes_of({args.x, args.x, args.positions, args.table})},
                    [=](OpContext& ctx) { rope_apply(ctx, args); }};
          }};
}

Case swiglu_forward_case(const ModelSizes& model) {
  return {
      fmt::format("swiglu_forward/bf16/{}x{}", model.tokens(), model.intermediate),
      [tokens = model.tokens(), inner = model.intermediate](Memory& m) -> Operation {
        const View both = m.random(DType::kBF16, {tokens, 2 * inner});
        const SwigluForwardArgs args{.gate = both.slice(1, 0, inner),
                                     .up = both.slice(1, inner, 2 * inner),
                                     .out = m.zeros(DType::kBF16, {tokens, inner})};
        return {{.bytes = bytes_of({both, args.out})}, [=](OpContext& ctx) { swiglu_forward(ctx, args); }};
      }};
}

Case swiglu_backward_case(const ModelSizes& model) {
  return {fmt::format("swiglu_backward/bf16/{}x{}", model.tokens(), model.intermediate),
          [tokens = model.tokens(), inner = model.intermediate](Memory& m) -> Operation {
            const View both = m.random(DType::kBF16, {tokens, 2 * inner}),
                       gradients = m.zeros(DType::kBF16, {tokens, 2 * inner});
            const SwigluBackwardArgs args{.dout = m.random(DType::kBF16, {tokens, inner}),
                                          .gate = both.slice(1, 0, inner),
                                          .up = both.slice(1, inner, 2 * inner),
                                          .dgate = gradients.slice(1, 0, inner),
                                          .dup = gradients.slice(1, inner, 2 * inner)};
            return {{.bytes = bytes_of({args.dout, both, gradients})},
                    [=](OpContext& ctx) { swiglu_backward(ctx, args); }};
          }};
}

// Bytes of the table's rows that some token has.
double bytes_of_rows(const std::vector<std::int32_t>& ids, const View& table) {
  const std::set<std::int32_t> distinct(ids.begin(), ids.end());
  return static_cast<double>(distinct.size()) * bytes_of({table.slice(0, 0, 1)});
}

}  // namespace

void add_norm_cases(const BenchSizes& sizes, std::vector<Case>& cases) {
  cases.push_back(rms_norm_forward_case(sizes.norm_tokens, sizes.norm_hidden, false, DType::kBF16));
  cases.push_back(rms_norm_backward_case(sizes.norm_tokens, sizes.norm_hidden, false, DType::kBF16));
  const ModelSizes& largest = sizes.models.back();
  cases.push_back(rms_norm_forward_case(largest.tokens(), largest.hidden, true, DType::kF32));
  cases.push_back(rms_norm_backward_case(largest.tokens(), largest.hidden, true, DType::kF32));
}

void add_layer_cases(const ModelSizes& model, std::vector<Case>& cases) {
  cases.push_back(rms_norm_forward_case(model.tokens(), model.hidden, true, DType::kBF16));
  cases.push_back(rms_norm_backward_case(model.tokens(), model.hidden, true, DType::kBF16));
  cases.push_back(qk_norm_rope_forward_case(model));
  cases.push_back(qk_norm_rope_backward_case(model));
  cases.push_back(rope_case(model));
  cases.push_back(swiglu_forward_case(model));
  cases.push_back(swiglu_backward_case(model));
}

void add_embedding_cases(const ModelSizes& model, std::vector<Case>& cases) {
  const std::string sizes = fmt::format("bf16/{}x{}x{}", model.tokens(), model.vocabulary, model.hidden);
  const std::vector<std::int32_t> ids = word_ids(model.tokens(), model.vocabulary);
  cases.push_back({"embedding_forward/" + sizes, [=](Memory& m) -> Operation {
                     const View table = m.random(DType::kBF16, {model.vocabulary, model.hidden});
                     const EmbeddingForwardArgs args{
                         .ids = m.ints(ids),
                         .table = table,
                         .out = m.zeros(DType::kBF16, {model.tokens(), model.hidden})};
                     return {{.bytes = bytes_of({args.ids, args.out}) + bytes_of_rows(ids, table)},
                             [=](OpContext& ctx) { embedding_forward(ctx, args); }};
                   }});
  cases.push_back({"embedding_backward/" + sizes, [=](Memory& m) -> Operation {
                     const EmbeddingBackwardArgs args{
                         .ids = m.ints(ids),
                         .dout = m.random(DType::kBF16, {model.tokens(), model.hidden}),
                         .dtable = m.zeros(DType::kF32, {model.vocabulary, model.hidden})};
                     return {{.bytes = bytes_of({args.ids, args.dout}) + 2 * bytes_of_rows(ids, args.dtable)},
                             [=](OpContext& ctx) { embedding_backward(ctx, args); }};
                   }});
}

}  // namespace terroir::bench
