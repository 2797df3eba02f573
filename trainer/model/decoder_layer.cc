#include "trainer/model/decoder_layer.h"

#include <algorithm>

#include "kernels/matmul/matmul.h"
#include "kernels/qk_norm_rope/qk_norm_rope.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/swiglu/swiglu.h"
#include "trainer/model/layer_attention.h"

namespace terroir {
namespace {

constexpr MatmulOptions kLinear{.transpose_b = true};                              // y = x w^T
constexpr MatmulOptions kInputGradientAdd{.accumulate = true};                     // dx += dy w
constexpr MatmulOptions kWeightGradient{.transpose_a = true, .accumulate = true};  // dw += dy^T x

// Columns [begin, begin + heads * D) of an activation [T, C] as [T, heads, D].
View as_heads(View activation, std::int64_t begin, std::int64_t heads, std::int64_t head_dim) {
  return activation.slice(1, begin, begin + heads * head_dim).split(1, head_dim);
}

void project_qkv(const LayerEnvironment& env, const LayerTensors& weights, ConstView x, View qkv) {
  for (const Projection& p : weights.qkv) {
    const View out = qkv.slice(1, p.column, p.column + p.weight.size(0));
    matmul(env.ctx, x, p.weight, out, kLinear, p.bias);
  }
}

// Of an activation or gradient [T, (N+2K)*D].
View queries_and_keys(const LayerShape& shape, View qkv) {
  return as_heads(qkv, 0, shape.heads + shape.kv_heads, shape.head_dim);
}

// Norms (Qwen3) and rotates queries and keys of saved.qkv in place.
void place_queries_and_keys(const LayerEnvironment& env, const LayerTensors& weights, SavedLayer& saved) {
  const View x = queries_and_keys(env.shape, saved.qkv);
  const ConstView positions = env.positions.reshape({env.positions.numel()});
  if (env.shape.qk_norm) {
    qk_norm_rope_forward(env.ctx, {.x = x,
                                   .query_heads = env.shape.heads,
                                   .q_weight = weights.q_norm,
                                   .k_weight = weights.k_norm,
                                   .positions = positions,
                                   .table = env.rope_table,
                                   .eps = env.shape.eps,
                                   .before = saved.qk_before_norm,
                                   .rstd = saved.qk_rstd});
  } else {
    rope_apply(env.ctx, {.x = x, .positions = positions, .table = env.rope_table, .inverse = false});
  }
}

// In place on the first columns of `gradient`, which hold dq and dk.
void place_queries_and_keys_backward(const LayerEnvironment& env, const LayerTensors& weights,
                                     const LayerTensors& gradients, const SavedLayer& saved, View gradient) {
  const View dx = queries_and_keys(env.shape, gradient);
  const ConstView positions = env.positions.reshape({env.positions.numel()});
  if (env.shape.qk_norm) {
    qk_norm_rope_backward(env.ctx, {.dx = dx,
                                    .query_heads = env.shape.heads,
                                    .q_weight = weights.q_norm,
                                    .k_weight = weights.k_norm,
                                    .positions = positions,
                                    .table = env.rope_table,
                                    .before = saved.qk_before_norm,
                                    .rstd = saved.qk_rstd,
                                    .dq_weight = gradients.q_norm,
                                    .dk_weight = gradients.k_norm,
                                    .workspace = env.scratch.workspace});
  } else {
    rope_apply(env.ctx, {.x = dx, .positions = positions, .table = env.rope_table, .inverse = true});
  }
}

void norm_forward(const LayerEnvironment& env, View x, View delta, View weight, View& residual, View y,
                  View rstd) {
  if (!delta) residual = x;
  rms_norm_forward(env.ctx, {.x = x,
                             .delta = delta,
                             .weight = weight,
                             .eps = env.shape.eps,
                             .residual_out = delta ? residual : View(),
                             .y = y,
                             .rstd = rstd});
}

// gradient: in, of the normed residual's own stream; out, with the norm's part added.
void norm_backward(const LayerEnvironment& env, View dy, View residual, View weight, View rstd, View dweight,
                   View gradient) {
  rms_norm_backward(env.ctx, {.dy = dy,
                              .dresidual = gradient,
                              .residual = residual,
                              .weight = weight,
                              .rstd = rstd,
                              .dx = gradient,
                              .dweight = dweight,
                              .workspace = env.scratch.workspace});
}

void attention_half_backward(const LayerEnvironment& env, const LayerTensors& weights,
                             const LayerTensors& gradients, const SavedLayer& saved, View gradient) {
  const LayerShape& shape = env.shape;
  LayerScratch& s = env.scratch;
  const Stream& stream = env.ctx.stream;
  const View g = env.region.gather(gradient, s.gathered_gradient, stream, "gradient of attention output");
  const View do_ = s.narrow(shape.query_columns());
  matmul(env.ctx, g, weights.o, do_);
  matmul(env.ctx, g, saved.attention_out, gradients.o, kWeightGradient);

  const View dqkv = s.wide(shape.qkv_columns());
  layer_attention_backward(env, saved, do_, dqkv);
  place_queries_and_keys_backward(env, weights, gradients, saved, dqkv);

  const View x = env.region.gather(saved.y1, s.gathered, stream, "attention input");
  const View dx = env.region.partial(s.norm_gradient, s.partial);
  for (std::size_t i = 0; i < weights.qkv.size(); ++i) {
    const Projection& w = weights.qkv[i];
    const Projection& dw = gradients.qkv[i];
    const View dy = dqkv.slice(1, w.column, w.column + w.weight.size(0));
    matmul(env.ctx, dy, w.weight, dx, i == 0 ? MatmulOptions{} : kInputGradientAdd);
    matmul(env.ctx, dy, x, dw.weight, kWeightGradient);
    if (dw.bias) matmul(env.ctx, s.ones, dy, dw.bias.reshape({1, dw.bias.size(0)}), {.accumulate = true});
  }
  env.region.reduce(dx, s.norm_gradient, stream, "gradient of attention input");
  norm_backward(env, s.norm_gradient, saved.residual1, weights.input_norm, saved.rstd1, gradients.input_norm,
                gradient);
}

void mlp_half_backward(const LayerEnvironment& env, const LayerTensors& weights,
                       const LayerTensors& gradients, const SavedLayer& saved, View gradient) {
  const std::int64_t inner = env.shape.intermediate;
  LayerScratch& s = env.scratch;
  const Stream& stream = env.ctx.stream;
  const View g = env.region.gather(gradient, s.gathered_gradient, stream, "gradient of mlp output");
  const View dactivated = s.narrow(inner);
  matmul(env.ctx, g, weights.down, dactivated);
  matmul(env.ctx, g, saved.activated, gradients.down, kWeightGradient);

  const View dgate_up = s.wide(2 * inner);
  swiglu_backward(env.ctx, {.dout = dactivated,
                            .gate = saved.gate_up.slice(1, 0, inner),
                            .up = saved.gate_up.slice(1, inner, 2 * inner),
                            .dgate = dgate_up.slice(1, 0, inner),
                            .dup = dgate_up.slice(1, inner, 2 * inner)});
  const View x = env.region.gather(saved.y2, s.gathered, stream, "mlp input");
  const View dx = env.region.partial(s.norm_gradient, s.partial);
  matmul(env.ctx, dgate_up, weights.gate_up, dx);
  matmul(env.ctx, dgate_up, x, gradients.gate_up, kWeightGradient);
  env.region.reduce(dx, s.norm_gradient, stream, "gradient of mlp input");
  norm_backward(env, s.norm_gradient, saved.residual2, weights.post_norm, saved.rstd2, gradients.post_norm,
                gradient);
}

}  // namespace

SavedLayer allocate_saved(Arena& arena, const LayerShape& shape, std::int64_t batch, std::int64_t sequence,
                          std::int64_t local_tokens) {
  const std::int64_t tokens = batch * sequence;
  using Dims = std::initializer_list<std::int64_t>;
  const auto act = [&](Dims dims) { return arena.allocate(shape.dtype, dims); };
  const auto f32 = [&](Dims dims) { return arena.allocate(DType::kF32, dims); };
  SavedLayer saved;
  saved.residual1 = act({local_tokens, shape.hidden});
  saved.rstd1 = f32({local_tokens});
  saved.y1 = act({local_tokens, shape.hidden});
  saved.qkv = act({tokens, shape.qkv_columns()});
  if (shape.qk_norm) {
    saved.qk_before_norm = act({tokens, shape.heads + shape.kv_heads, shape.head_dim});
    saved.qk_rstd = f32({tokens, shape.heads + shape.kv_heads});
  }
  saved.attention_out = act({tokens, shape.query_columns()});
  saved.lse = f32({batch, shape.heads, sequence});
  saved.residual2 = act({local_tokens, shape.hidden});
  saved.rstd2 = f32({local_tokens});
  saved.y2 = act({local_tokens, shape.hidden});
  saved.gate_up = act({tokens, 2 * shape.intermediate});
  saved.activated = act({tokens, shape.intermediate});
  return saved;
}

LayerScratch allocate_scratch(Arena& arena, const LayerShape& shape, std::int64_t batch,
                              std::int64_t sequence, std::int64_t local_tokens,
                              std::int64_t attention_bytes) {
  const std::int64_t tokens = batch * sequence;
  const auto act = [&](std::int64_t rows, std::int64_t columns) {
    return arena.allocate(shape.dtype, {rows, columns});
  };
  LayerScratch scratch;
  const std::int64_t split_tokens = local_tokens == tokens ? 0 : tokens;  // unused where nothing is split
  scratch.gathered = act(split_tokens, shape.hidden);
  scratch.gathered_gradient = act(split_tokens, shape.hidden);
  scratch.partial = act(split_tokens, shape.hidden);
  const auto flat = [&](std::int64_t columns) { return arena.allocate(shape.dtype, {tokens * columns}); };
  scratch.wide_gradient = flat(std::max(2 * shape.intermediate, shape.qkv_columns()));
  scratch.narrow_gradient = flat(std::max(shape.intermediate, shape.query_columns()));
  scratch.norm_gradient = act(local_tokens, shape.hidden);
  scratch.ones = act(1, tokens);
  const std::int64_t norm_bytes =
      std::max(rms_norm_backward_workspace(local_tokens, shape.hidden),
               shape.qk_norm ? qk_norm_rope_backward_workspace(shape.head_dim) : 0);
  scratch.workspace = arena.allocate(DType::kU8, {std::max(norm_bytes, attention_bytes)});
  return scratch;
}

void decoder_forward(const LayerEnvironment& env, const LayerTensors& weights, View residual, View delta,
                     View delta_out, SavedLayer& saved, KvCache* cache) {
  const LayerShape& shape = env.shape;
  const Stream& stream = env.ctx.stream;
  LayerScratch& s = env.scratch;

  norm_forward(env, residual, delta, weights.input_norm, saved.residual1, saved.y1, saved.rstd1);
  project_qkv(env, weights, env.region.gather(saved.y1, s.gathered, stream, "attention input"), saved.qkv);
  place_queries_and_keys(env, weights, saved);
  layer_attention_forward(env, saved, cache);
  const View attention = env.region.partial(delta_out, s.partial);
  matmul(env.ctx, saved.attention_out, weights.o, attention, kLinear);
  env.region.reduce(attention, delta_out, stream, "attention output");

  norm_forward(env, saved.residual1, delta_out, weights.post_norm, saved.residual2, saved.y2, saved.rstd2);
  matmul(env.ctx, env.region.gather(saved.y2, s.gathered, stream, "mlp input"), weights.gate_up,
         saved.gate_up, kLinear);
  swiglu_forward(env.ctx, {.gate = saved.gate_up.slice(1, 0, shape.intermediate),
                           .up = saved.gate_up.slice(1, shape.intermediate, 2 * shape.intermediate),
                           .out = saved.activated});
  const View mlp = env.region.partial(delta_out, s.partial);
  matmul(env.ctx, saved.activated, weights.down, mlp, kLinear);
  env.region.reduce(mlp, delta_out, stream, "mlp output");
}

void decoder_backward(const LayerEnvironment& env, const LayerTensors& weights, const LayerTensors& gradients,
                      const SavedLayer& saved, View gradient) {
  mlp_half_backward(env, weights, gradients, saved, gradient);
  attention_half_backward(env, weights, gradients, saved, gradient);
}

}  // namespace terroir
