#include "trainer/checkpoint/rank_file.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/file.h"
#include "base/hash.h"
#include "trainer/checkpoint/safetensors.h"

namespace terroir {
namespace {

// A slice that is a whole box keeps the box's shape, so that other programs see matrices; a part of one is a
// list.
std::vector<std::int64_t> stored_shape(const StateSlice& slice) {
  if (slice.begin == 0 && slice.end == slice.box.numel()) return slice.box.shape;
  return {slice.end - slice.begin};
}

// "model.norm.weight/exp_avg/0"; the number tells apart several slices of one state.
std::map<std::string, std::size_t> make_keys(std::span<const StateSlice> slices) {
  std::map<std::string, std::size_t> keys;
  std::map<std::string, int> count;
  for (std::size_t i = 0; i < slices.size(); ++i) {
    check_slice(slices[i]);
    if (slices[i].begin == slices[i].end) continue;
    const std::string state = slices[i].tensor + "/" + slices[i].state;
    keys[fmt::format("{}/{}", state, count[state]++)] = i;
  }
  return keys;
}

Hash128 write_slice(SafetensorsWriter& writer, const StateSlice& slice, std::size_t index,
                    const SliceReader& read) {
  Xxh3 hash;
  const std::int64_t numel = slice.end - slice.begin;
  for (std::int64_t first = 0; first < numel; first += kChunkElements) {
    const std::int64_t count = std::min(kChunkElements, numel - first);
    const auto bytes = std::as_bytes(read(index, first, count));
    hash.update(bytes);
    writer.append(bytes);
  }
  return hash.digest();
}

}  // namespace

CheckpointManifest write_rank_file(const std::filesystem::path& folder, const std::string& name,
                                   std::span<const StateSlice> slices, const SliceReader& read,
                                   const SaveProbe& probe) {
  const std::map<std::string, std::size_t> keys = make_keys(slices);
  CheckpointManifest part;
  if (keys.empty()) return part;
  std::vector<SafetensorsTensor> tensors;
  for (const auto& [key, index] : keys)
    tensors.push_back({key, SafetensorsDType::kF32, stored_shape(slices[index])});
  SafetensorsWriter writer(folder / name, std::move(tensors));
  for (const SafetensorsTensor& tensor : writer.tensors()) {
    const std::size_t index = keys.at(tensor.name);
    const StateSlice& slice = slices[index];
    const std::string hash = write_slice(writer, slice, index, read).hex();
    StoredTensor& stored =
        part.tensors.try_emplace(slice.tensor, StoredTensor{slice.global_shape, {}}).first->second;
    stored.states[slice.state].push_back({slice.box, slice.begin, slice.end, name, tensor.name, hash});
  }
  if (probe) probe(SavePoint::kAfterWrite);
  writer.commit();
  if (probe) probe(SavePoint::kAfterFsync);
  part.files.push_back({name, writer.bytes_written(), writer.hash().hex()});
  return part;
}

StoredFile write_side_file(const std::filesystem::path& folder, const std::string& name,
                           const std::string& text) {
  const std::filesystem::path path = folder / name;
  terroir::create_directories(path.parent_path());
  write_file_atomically(path, text);
  return {name, text.size(), xxh3_128(std::as_bytes(std::span(text))).hex()};
}

}  // namespace terroir
