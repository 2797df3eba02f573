#include "trainer/interop/hf_weights.h"

#include <algorithm>
#include <set>

#include "base/json.h"

namespace terroir {
namespace fs = std::filesystem;
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr std::uint64_t kMaxIndexBytes = 100'000'000;

// Tensor name -> shard, from the index file.
std::map<std::string, std::string> read_weight_map(const fs::path& index) {
  const Place place{index.string()};
  const Json json = parse_json(read_file(index, ExitCode::kCheckpoint, kMaxIndexBytes), index.string(),
                               ExitCode::kCheckpoint);
  const Json map = json_at<Json>(json, "weight_map", place, ExitCode::kCheckpoint);
  if (!map.is_object()) throw UserError(ExitCode::kCheckpoint, place, "weight_map must be an object");
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : map.items()) {
    const bool plain =
        file.is_string() && fs::path(file.get<std::string>()).filename() == file.get<std::string>();
    if (!plain)
      throw UserError(ExitCode::kCheckpoint, Place{index.string(), 0, 0, name},
                      "must name a file in the same folder");
    files[name] = file.get<std::string>();
  }
  return files;
}

}  // namespace

HfWeights::HfWeights(const fs::path& folder) {
  if (fs::exists(folder / kSingle)) {
    open(folder / kSingle);
    return;
  }
  if (!fs::exists(folder / kIndex))
    throw UserError(
        ExitCode::kCheckpoint, Place{folder.string()},
        "has neither model.safetensors nor model.safetensors.index.json; weights in another format "
        "(pytorch_model.bin) must be saved as safetensors first");
  const std::map<std::string, std::string> weight_map = read_weight_map(folder / kIndex);
  std::set<std::string> shards;
  for (const auto& [name, file] : weight_map) shards.insert(file);
  for (const std::string& file : shards) open(folder / file);
  for (const auto& [name, file] : weight_map) {
    const auto found = entries_.find(name);
    if (found == entries_.end() || found->second.file->path().filename() != file)
      throw UserError(ExitCode::kCheckpoint, Place{(folder / file).string(), 0, 0, name},
                      "is not in this file, as the index says");
  }
}

void HfWeights::open(const fs::path& path) {
  files_.push_back(std::make_unique<SafetensorsFile>(path));
  const SafetensorsFile& file = *files_.back();
  for (const SafetensorsTensor& tensor : file.tensors())
    if (const auto [found, added] = entries_.emplace(tensor.name, Entry{&file, &tensor}); !added)
      throw UserError(ExitCode::kCheckpoint, Place{path.string(), 0, 0, tensor.name},
                      fmt::format("is also in {}", found->second.file->path().string()));
}

bool same_tensor(const HfWeights::Entry& a, const HfWeights::Entry& b) {
  if (a.tensor->dtype != b.tensor->dtype || a.tensor->shape != b.tensor->shape) return false;
  constexpr std::uint64_t kChunk = 1 << 20;
  const std::uint64_t bytes = a.tensor->end - a.tensor->begin;
  std::vector<std::byte> left(kChunk), right(kChunk);
  for (std::uint64_t offset = 0; offset < bytes; offset += kChunk) {
    const std::size_t count = std::min(kChunk, bytes - offset);
    a.file->read(*a.tensor, offset, std::span(left).first(count));
    b.file->read(*b.tensor, offset, std::span(right).first(count));
    if (!std::equal(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(count), right.begin()))
      return false;
  }
  return true;
}

}  // namespace terroir
