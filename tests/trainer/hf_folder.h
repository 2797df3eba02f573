// Small Hugging Face folders with random weights, made without Python.
#pragma once

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "trainer/checkpoint/safetensors.h"
#include "trainer/interop/hf_config.h"
#include "trainer/interop/hf_tensors.h"

namespace terroir::test {

// Odd sizes: nothing divides anything by accident.
inline ModelConfig small_model(const std::string& model_type, bool tied) {
  ModelConfig model;
  model.model_type = model_type;
  model.vocab_size = 37;
  model.hidden_size = 12;
  model.intermediate_size = 23;
  model.num_hidden_layers = 2;
  model.num_attention_heads = 3;
  model.num_key_value_heads = 1;
  model.head_dim = 6;
  model.rms_norm_eps = 1e-6;
  model.rope_theta = 12345;
  model.max_position_embeddings = 64;
  model.tie_word_embeddings = tied;
  return model;
}

// Any bit pattern may stand in a weight, NaN and subnormals too: they are copied, not computed with.
inline void append_random(SafetensorsWriter& writer, const SafetensorsTensor& tensor) {
  std::mt19937 random(
      static_cast<std::uint32_t>(tensor.name.size() * 31 + tensor.name[tensor.name.size() / 2]));
  std::string bytes(tensor.end - tensor.begin, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  writer.append(std::as_bytes(std::span(bytes)));
}

inline std::vector<SafetensorsTensor> tensors_of(const ModelConfig& model, SafetensorsDType dtype) {
  std::vector<SafetensorsTensor> tensors;
  for (const NamedShape& tensor : hf_tensors(model)) tensors.push_back({tensor.name, dtype, tensor.shape});
  return tensors;
}

inline void write_weights(const std::filesystem::path& path, const std::vector<SafetensorsTensor>& tensors) {
  SafetensorsWriter writer(path, tensors);
  for (const SafetensorsTensor& tensor : writer.tensors()) append_random(writer, tensor);
  writer.commit();
}

inline void write_json(const std::filesystem::path& path, const Json& json) {
  write_file_atomically(path, json.dump(2) + "\n");
}

// As transformers 4 would write it.
inline Json config_json(const ModelConfig& model, const std::string& dtype) {
  Json config = hf_config_of(model, {dtype, 1, 2}, Json::object());
  config.erase("rope_parameters");
  config.erase("dtype");
  return config;
}

inline void write_hf_folder(const std::filesystem::path& folder, const ModelConfig& model,
                            SafetensorsDType dtype) {
  std::filesystem::create_directories(folder);
  write_json(folder / "config.json",
             config_json(model, dtype == SafetensorsDType::kBF16 ? "bfloat16" : "float32"));
  write_weights(folder / "model.safetensors", tensors_of(model, dtype));
}

}  // namespace terroir::test
