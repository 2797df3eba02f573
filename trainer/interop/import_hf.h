// Hugging Face folder -> checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace terroir {

struct ImportHfOptions {
  std::filesystem::path folder;      // config.json, model*.safetensors, tokenizer.json if there is one
  std::filesystem::path checkpoint;  // the checkpoint folder to write
  bool overwrite = false;            // replace an existing checkpoint
};

struct ImportHfReport {
  std::string model_type;
  std::int64_t num_tensors = 0, num_parameters = 0;
  std::string dtype;  // of the weights: "f32", "bf16", "f16" or "mixed"
  bool has_tokenizer = false;
};

// Writes a checkpoint of step 0 with weights only, f32. The small files beside the weights are kept in it
// under hf/, so that an export gives back what was imported. Memory does not grow with the model. On an error
// (exit 4: what is in the folder; exit 2: `checkpoint` exists) nothing is left.
ImportHfReport import_hf(const ImportHfOptions& options);

}  // namespace terroir
