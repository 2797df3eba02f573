// One rank's part of a checkpoint: its slices in one safetensors file.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>

#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/manifest.h"

namespace terroir {

// Elements [first, first + count) of slice number `slice`; valid until the next call. Called in the order of
// the file, front to back, with `count` of at most a few MiB.
using SliceReader =
    std::function<std::span<const float>(std::size_t slice, std::int64_t first, std::int64_t count)>;

// Writes the slices to folder/name, durable when it returns, and returns their part of the manifest. Slices
// without elements are left out; without any the file is too. `slices[i].data` is not read.
CheckpointManifest write_rank_file(const std::filesystem::path& folder, const std::string& name,
                                   std::span<const StateSlice> slices, const SliceReader& read,
                                   const SaveProbe& probe);

// Writes a text file into the checkpoint (folder "hf/" is made), durable when it returns.
StoredFile write_side_file(const std::filesystem::path& folder, const std::string& name,
                           const std::string& text);

}  // namespace terroir
