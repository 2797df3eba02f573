// The tensors of a Hugging Face checkpoint of a model: what an import must find and an export writes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/config/model_config.h"

namespace terroir {

struct NamedShape {
  std::string name;                 // "model.layers.0.self_attn.q_proj.weight"
  std::vector<std::int64_t> shape;  // matrices as [out, in]
};

// In the order of use, from the embedding to lm_head (absent when tied). REQUIRES: head_dim is resolved.
std::vector<NamedShape> hf_tensors(const ModelConfig& model);

std::int64_t num_parameters(const std::vector<NamedShape>& tensors);

}  // namespace terroir
