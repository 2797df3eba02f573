// The small files of a Hugging Face folder: what tells other programs how to use the weights.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "trainer/checkpoint/reader.h"
#include "trainer/interop/hf_tensors.h"

namespace terroir {

// Files of an imported folder that its checkpoint keeps, as they are, under hf/.
inline constexpr std::array kKeptFiles{"config.json", "generation_config.json", "tokenizer_config.json",
                                       "special_tokens_map.json", "chat_template.jinja"};
inline constexpr const char* kKeptFolder = "hf/";
inline constexpr std::uint64_t kMaxSmallFileBytes = 16 << 20;

// Name -> text of every file an export holds besides weights: config.json (dtype "float32" or "bfloat16"),
// generation_config.json, README.md, and with a tokenizer tokenizer.json (as stored), tokenizer_config.json
// and special_tokens_map.json. An imported model's own files are given back as they were, but for config.json
// and a tokenizer_class that only one generation of transformers knows.
std::map<std::string, std::string> hf_small_files(const CheckpointReader& checkpoint,
                                                  const std::string& dtype);

}  // namespace terroir
