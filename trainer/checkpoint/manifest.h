// manifest.json: what a checkpoint holds and where. Written last, so that a folder with one is complete.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"

namespace terroir {

inline constexpr const char* kManifestName = "manifest.json";

struct StoredFile {
  std::string name;  // relative to the checkpoint: "rank-00000.safetensors", "hf/config.json"
  std::uint64_t bytes = 0;
  std::string hash;  // XXH3-128 of all bytes, as all hashes here
};

// Elements [begin, end) of the box's row-major order, stored under `key` in the safetensors file `file`.
struct StoredSlice {
  Box box;
  std::int64_t begin = 0, end = 0;
  std::string file, key;
  std::string hash;  // of the slice's bytes
};

struct StoredTensor {
  std::vector<std::int64_t> shape;                         // unsharded
  std::map<std::string, std::vector<StoredSlice>> states;  // together they hold each element exactly once
};

// Also a rank's part of one, before they are merged; then only files and tensors are filled.
struct CheckpointManifest {
  CheckpointMeta meta;
  std::vector<StoredFile> files;
  std::map<std::string, StoredTensor> tensors;
  const StoredFile* find_file(const std::string& name) const;  // nullptr: no such file
};

// A rank's part as text and back, to send it to the rank that writes the manifest.
std::string manifest_part_text(const CheckpointManifest& part);
CheckpointManifest parse_manifest_part(const std::string& text);

// Adds the files (then sorted by name) and slices of `part`. Ranks must agree on shapes (checked).
void merge(CheckpointManifest& into, CheckpointManifest part);

// Throws ContractError, naming the tensor, unless each state of each tensor has as many elements as the
// tensor: a rank that forgot or repeated a slice is found before the checkpoint is committed.
void check_complete(const CheckpointManifest& manifest);

// The file's text; its last member is the hash of everything before it.
std::string manifest_text(const CheckpointManifest& manifest);

// Refuses a damaged or inconsistent text with a UserError, exit 4, that names `file` and the tensor.
CheckpointManifest parse_manifest(const std::string& text, const std::string& file);

// The manifest of a checkpoint folder. A folder without one is not a (complete) checkpoint: UserError,
// exit 4.
CheckpointManifest read_checkpoint_manifest(const std::filesystem::path& checkpoint);

}  // namespace terroir
