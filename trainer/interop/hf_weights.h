// The weights of a Hugging Face folder: model.safetensors, or shards named by model.safetensors.index.json.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trainer/checkpoint/safetensors.h"

namespace terroir {

// All errors are UserErrors, exit 4, that name file and tensor.
class HfWeights {
 public:
  explicit HfWeights(const std::filesystem::path& folder);

  struct Entry {
    const SafetensorsFile* file;
    const SafetensorsTensor* tensor;
  };
  const std::map<std::string, Entry>& entries() const { return entries_; }

 private:
  void open(const std::filesystem::path& path);
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Entry> entries_;
};

// True when the two tensors have the same dtype, shape and bytes.
bool same_tensor(const HfWeights::Entry& a, const HfWeights::Entry& b);

}  // namespace terroir
