#include "trainer/interop/hf_tensors.h"

#include "base/error.h"

namespace terroir {
namespace {

void add_attention(const ModelConfig& model, const std::string& layer, std::vector<NamedShape>& tensors) {
  const std::string attention = layer + "self_attn.";
  const std::int64_t hidden = model.hidden_size, q = model.query_size(), kv = model.key_value_size();
  tensors.push_back({attention + "q_proj.weight", {q, hidden}});
  tensors.push_back({attention + "k_proj.weight", {kv, hidden}});
  tensors.push_back({attention + "v_proj.weight", {kv, hidden}});
  if (model.qkv_bias()) {
    tensors.push_back({attention + "q_proj.bias", {q}});
    tensors.push_back({attention + "k_proj.bias", {kv}});
    tensors.push_back({attention + "v_proj.bias", {kv}});
  }
  if (model.qk_norm()) {
    tensors.push_back({attention + "q_norm.weight", {model.head_dim}});
    tensors.push_back({attention + "k_norm.weight", {model.head_dim}});
  }
  tensors.push_back({attention + "o_proj.weight", {hidden, q}});
}

void add_layer(const ModelConfig& model, std::int64_t index, std::vector<NamedShape>& tensors) {
  const std::string layer = fmt::format("model.layers.{}.", index);
  const std::int64_t hidden = model.hidden_size, intermediate = model.intermediate_size;
  tensors.push_back({layer + "input_layernorm.weight", {hidden}});
  add_attention(model, layer, tensors);
  tensors.push_back({layer + "post_attention_layernorm.weight", {hidden}});
  tensors.push_back({layer + "mlp.gate_proj.weight", {intermediate, hidden}});
  tensors.push_back({layer + "mlp.up_proj.weight", {intermediate, hidden}});
  tensors.push_back({layer + "mlp.down_proj.weight", {hidden, intermediate}});
}

}  // namespace

std::vector<NamedShape> hf_tensors(const ModelConfig& model) {
  TERROIR_CHECK(model.head_dim > 0, "head_dim is not resolved");
  std::vector<NamedShape> tensors{{"model.embed_tokens.weight", {model.vocab_size, model.hidden_size}}};
  for (std::int64_t layer = 0; layer < model.num_hidden_layers; ++layer) add_layer(model, layer, tensors);
  tensors.push_back({"model.norm.weight", {model.hidden_size}});
  if (!model.tie_word_embeddings)
    tensors.push_back({"lm_head.weight", {model.vocab_size, model.hidden_size}});
  return tensors;
}

std::int64_t num_parameters(const std::vector<NamedShape>& tensors) {
  std::int64_t total = 0;
  for (const NamedShape& tensor : tensors) {
    std::int64_t numel = 1;
    for (const std::int64_t size : tensor.shape) numel *= size;
    total += numel;
  }
  return total;
}

}  // namespace terroir
