// config.json of Llama, Qwen2 and Qwen3 in both dialects: transformers 4 has rope_theta, rope_scaling and
// torch_dtype; transformers 5 has rope_parameters and dtype.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/json.h"
#include "trainer/config/model_config.h"

namespace terroir {

// Reads either dialect or both. Anything this program would compute differently is refused, exit 4, with the
// key named: another architecture, rope type or activation, biases, a sliding window, quantized weights, keys
// of the two dialects that disagree. Absent keys have transformers' defaults. `file` names the text in
// messages.
ModelConfig model_from_hf_config(const Json& config, const std::string& file);

struct HfConfigFacts {
  std::string dtype;  // "float32" or "bfloat16"
  std::optional<std::int64_t> bos_token_id, eos_token_id;
};

// A config.json that readers of both dialects take for the same model. Keys of `base` (an imported model's
// config.json, or an empty object) that say nothing about the model's shape are kept; its token ids win over
// `facts`.
Json hf_config_of(const ModelConfig& model, const HfConfigFacts& facts, Json base);

}  // namespace terroir
