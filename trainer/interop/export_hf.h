// Checkpoint -> Hugging Face folder that transformers 4 and 5 and others read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace terroir {

enum class ExportDType : std::uint8_t { kF32, kBF16 };
const char* export_dtype_name(ExportDType dtype);  // "f32", "bf16"

struct ExportHfOptions {
  std::filesystem::path checkpoint;  // a step folder
  std::filesystem::path folder;      // to write
  // None: bf16 for a model imported as bf16, so that it comes back bit for bit; otherwise f32, what was
  // trained.
  std::optional<ExportDType> dtype;
  std::int64_t max_shard_bytes = 5'000'000'000;  // a single larger tensor makes a larger shard
  bool overwrite = false;                        // replace an existing Hugging Face folder
};

struct ExportHfReport {
  ExportDType dtype = ExportDType::kF32;
  std::int64_t num_tensors = 0, num_parameters = 0, total_bytes = 0;  // of the weights
  std::vector<std::string> files;
  std::vector<std::string> warnings;  // what a program that reads the folder gets wrong
};

// Writes config.json (keys of transformers 4 and 5), generation_config.json, model.safetensors or shards with
// their index, the tokenizer's files and README.md, first under a temporary name. Memory: the largest tensor,
// twice. On an error (exit 4: the checkpoint; exit 2: `folder` exists) nothing is left.
ExportHfReport export_hf(const ExportHfOptions& options);

// "5GB", "200MB", "1GiB", or a number of bytes. UserError, exit 2, otherwise.
std::int64_t parse_size(const std::string& text);

}  // namespace terroir
