// A checkpoint opened for reading: the manifest once, each file when first needed.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/safetensors.h"

namespace terroir {

// Not thread-safe. Errors as load_checkpoint.
class CheckpointReader {
 public:
  explicit CheckpointReader(const std::filesystem::path& checkpoint);
  const std::filesystem::path& path() const { return path_; }
  const CheckpointManifest& manifest() const { return manifest_; }

  // As load_checkpoint. A stored slice that several wanted slices need is read once; memory stays within a
  // few MiB.
  void load(std::span<const StateSlice> wanted);
  // As read_checkpoint_file.
  std::optional<std::string> read_file(const std::string& name) const;

 private:
  // A wanted slice and which of its elements were found.
  struct Taker {
    const StateSlice* wanted;
    std::vector<bool> covered;
  };
  const std::vector<StoredSlice>& stored_slices(const StateSlice& wanted) const;
  const SafetensorsFile& open(const std::string& name);
  void load_state(std::vector<Taker> takers);  // all of one state of one tensor
  void copy_slice(const StoredSlice& stored, std::span<Taker* const> takers);

  std::filesystem::path path_;
  CheckpointManifest manifest_;
  std::map<std::string, std::unique_ptr<SafetensorsFile>> files_;
};

}  // namespace terroir
