// The decoder's shape. Field names are Hugging Face's, so that config.json can be read beside it.
#pragma once

#include <cstdint>
#include <string>

namespace terroir {

// Llama-3 frequency scaling (Hugging Face rope_type "llama3"); factor 1 means none.
struct RopeScalingConfig {
  std::string rope_type = "default";  // "default" | "llama3"
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  std::int64_t original_max_position_embeddings = 8192;
  bool operator==(const RopeScalingConfig&) const = default;
};

struct ModelConfig {
  // "llama"; "qwen2" adds biases to q, k and v; "qwen3" adds RMSNorm to each q and k head.
  std::string model_type = "llama";
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 256;
  std::int64_t intermediate_size = 704;
  std::int64_t num_hidden_layers = 8;
  std::int64_t num_attention_heads = 8;
  std::int64_t num_key_value_heads = 4;
  std::int64_t head_dim = 0;  // 0 in YAML means hidden_size / num_attention_heads; resolved before use
  double rms_norm_eps = 1e-5;
  double rope_theta = 500000;
  RopeScalingConfig rope_scaling;
  std::int64_t max_position_embeddings = 0;  // 0 in YAML means data.sequence_length; recorded for export
  bool tie_word_embeddings = true;
  double initializer_range = 0.02;

  bool qkv_bias() const { return model_type == "qwen2"; }
  bool qk_norm() const { return model_type == "qwen3"; }
  std::int64_t query_size() const { return num_attention_heads * head_dim; }
  std::int64_t key_value_size() const { return num_key_value_heads * head_dim; }
  bool operator==(const ModelConfig&) const = default;
};

}  // namespace terroir
