// Which pieces of a layer's logical tensors a tensor rank holds, and the views of them.
#include <fmt/core.h>

#include "trainer/model/decoder_layer.h"

namespace terroir {
namespace {

// Rows [range) of a [rows, columns] tensor.
ParamPiece row_piece(std::string name, std::int64_t rows, std::int64_t columns, Range range) {
  return {std::move(name), {rows, columns}, {{range.begin, 0}, {range.size(), columns}}};
}
ParamPiece column_piece(std::string name, std::int64_t rows, std::int64_t columns, Range range) {
  return {std::move(name), {rows, columns}, {{0, range.begin}, {rows, range.size()}}};
}
ParamPiece vector_piece(std::string name, std::int64_t n, Range range) {
  return {std::move(name), {n}, {{range.begin}, {range.size()}}};
}

template <class GetView>
LayerTensors layer_tensors(const LayerBlocks& blocks, const LayerShape& shape, GetView view) {
  LayerTensors tensors;
  tensors.input_norm = view(blocks.input_norm, 0);
  tensors.o = view(blocks.o, shape.query_columns());
  tensors.post_norm = view(blocks.post_norm, 0);
  tensors.gate_up = view(blocks.gate_up, shape.hidden);
  tensors.down = view(blocks.down, shape.intermediate);
  if (shape.qk_norm) {
    tensors.q_norm = view(blocks.q_norm, 0);
    tensors.k_norm = view(blocks.k_norm, 0);
  }
  std::int64_t column = 0;
  for (std::size_t i = 0; i < blocks.qkv.size(); ++i) {
    Projection projection{view(blocks.qkv[i], shape.hidden), {}, column};
    if (shape.qkv_bias) projection.bias = view(blocks.qkv_bias[i], 0);
    if (i > 0) {  // replicated key or value weights: this rank uses its heads' rows
      const std::int64_t begin = shape.kv_begin * shape.head_dim;
      projection.weight = projection.weight.slice(0, begin, begin + shape.kv_columns());
      if (shape.qkv_bias) projection.bias = projection.bias.slice(0, begin, begin + shape.kv_columns());
    }
    column += projection.weight.size(0);
    tensors.qkv.push_back(projection);
  }
  return tensors;
}

}  // namespace

LayerShape LayerShape::of(const ModelConfig& config, int tensor_size, int tensor_rank,
                          bool sequence_parallel) {
  if (config.num_attention_heads % tensor_size != 0)
    throw UserError(
        ExitCode::kUsage, Place{.key = "parallel.tensor"},
        fmt::format("{} tensor ranks do not divide model.num_attention_heads = {}: choose a divisor",
                    tensor_size, config.num_attention_heads));
  LayerShape shape;
  shape.hidden = config.hidden_size;
  shape.head_dim = config.head_dim;
  shape.heads = config.num_attention_heads / tensor_size;
  shape.heads_per_kv = config.num_attention_heads / config.num_key_value_heads;
  shape.kv_replicated = config.num_key_value_heads % tensor_size != 0;
  const std::int64_t first_head = shape.heads * tensor_rank;
  shape.kv_begin = first_head / shape.heads_per_kv;
  shape.head_offset = first_head - shape.kv_begin * shape.heads_per_kv;
  shape.kv_heads = (first_head + shape.heads - 1) / shape.heads_per_kv + 1 - shape.kv_begin;
  shape.intermediate = split_range(config.intermediate_size, tensor_size, tensor_rank).size();
  shape.qkv_bias = config.qkv_bias();
  shape.qk_norm = config.qk_norm();
  // Under sequence parallelism a norm sees this rank's tokens only: its gradient is partial over the tensor
  // ranks.
  shape.norm_scope = sequence_parallel ? ReduceScope::kTensorAndData : ReduceScope::kReplicated;
  shape.eps = static_cast<float>(config.rms_norm_eps);
  return shape;
}

LayerBlocks add_layer_blocks(ParameterTable& table, const ModelConfig& config, const LayerShape& shape,
                             int index, int tensor_size, int tensor_rank) {
  const std::int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const std::string prefix = fmt::format("model.layers.{}.", index);
  const Range inner_range = split_range(inner, tensor_size, tensor_rank);
  const Range q_range = {shape.query_columns() * tensor_rank, shape.query_columns() * (tensor_rank + 1)};
  const Range kv_range = shape.kv_replicated ? Range{0, config.key_value_size()}
                                             : Range{shape.kv_begin * shape.head_dim,
                                                     shape.kv_begin * shape.head_dim + shape.kv_columns()};
  const auto vector_block = [&](const std::string& name, std::int64_t n, ReduceScope scope) {
    return table.add(scope, false, {vector_piece(prefix + name, n, {0, n})});
  };
  const auto matrix_block = [&](std::vector<ParamPiece> pieces, ReduceScope scope = ReduceScope::kData) {
    return table.add(scope, true, std::move(pieces), shape.matrix_gradients);
  };
  const auto attention = [&](const char* name) { return prefix + "self_attn." + name; };

  LayerBlocks blocks;
  blocks.down = matrix_block({column_piece(prefix + "mlp.down_proj.weight", hidden, inner, inner_range)});
  blocks.gate_up = matrix_block({row_piece(prefix + "mlp.gate_proj.weight", inner, hidden, inner_range),
                                 row_piece(prefix + "mlp.up_proj.weight", inner, hidden, inner_range)});
  blocks.post_norm = vector_block("post_attention_layernorm.weight", hidden, shape.norm_scope);
  blocks.o = matrix_block({column_piece(attention("o_proj.weight"), hidden, config.query_size(), q_range)});
  if (shape.qk_norm) {  // each rank's heads give a part of the gradient
    blocks.q_norm = vector_block("self_attn.q_norm.weight", shape.head_dim, ReduceScope::kTensorAndData);
    blocks.k_norm = vector_block("self_attn.k_norm.weight", shape.head_dim, ReduceScope::kTensorAndData);
  }
  std::vector<ParamPiece> weights = {
      row_piece(attention("q_proj.weight"), config.query_size(), hidden, q_range),
      row_piece(attention("k_proj.weight"), config.key_value_size(), hidden, kv_range),
      row_piece(attention("v_proj.weight"), config.key_value_size(), hidden, kv_range)};
  std::vector<ParamPiece> biases = {
      vector_piece(attention("q_proj.bias"), config.query_size(), q_range),
      vector_piece(attention("k_proj.bias"), config.key_value_size(), kv_range),
      vector_piece(attention("v_proj.bias"), config.key_value_size(), kv_range)};
  if (shape.kv_replicated) {
    for (int i = 0; i < 3; ++i) {
      const ReduceScope scope = i == 0 ? ReduceScope::kData : ReduceScope::kTensorAndData;
      if (shape.qkv_bias) blocks.qkv_bias.push_back(table.add(scope, false, {biases[i]}));
      blocks.qkv.push_back(matrix_block({weights[i]}, scope));
    }
  } else {
    if (shape.qkv_bias) blocks.qkv_bias.push_back(table.add(ReduceScope::kData, false, std::move(biases)));
    blocks.qkv.push_back(matrix_block(std::move(weights)));
  }
  blocks.input_norm = vector_block("input_layernorm.weight", hidden, shape.norm_scope);
  return blocks;
}

LayerTensors layer_weights(ParameterTable& table, const LayerBlocks& blocks, const LayerShape& shape) {
  return layer_tensors(blocks, shape,
                       [&](int block, std::int64_t columns) { return table.param(block, columns); });
}
LayerTensors layer_gradients(const ParameterTable& table, const LayerBlocks& blocks,
                             const LayerShape& shape) {
  return layer_tensors(blocks, shape,
                       [&](int block, std::int64_t columns) { return table.grad(block, columns); });
}

}  // namespace terroir
