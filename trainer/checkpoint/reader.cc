#include "trainer/checkpoint/reader.h"

#include <algorithm>
#include <utility>

#include "base/file.h"
#include "base/hash.h"

namespace terroir {
namespace {

[[noreturn]] void refuse(const std::filesystem::path& file, const std::string& key,
                         const std::string& message) {
  throw UserError(ExitCode::kCheckpoint, Place{file.string(), 0, 0, key}, message);
}

StateSlice without_data(const StoredSlice& stored, const StateSlice& like) {
  return {like.tensor, like.state, like.global_shape, stored.box, stored.begin, stored.end, nullptr};
}

}  // namespace

CheckpointReader::CheckpointReader(const std::filesystem::path& checkpoint)
    : path_(checkpoint), manifest_(read_checkpoint_manifest(checkpoint)) {}

std::optional<std::string> CheckpointReader::read_file(const std::string& name) const {
  const StoredFile* stored = manifest_.find_file(name);
  if (stored == nullptr) return std::nullopt;
  std::string text = terroir::read_file(path_ / name, ExitCode::kCheckpoint);
  if (text.size() != stored->bytes || xxh3_128(std::as_bytes(std::span(text))).hex() != stored->hash)
    refuse(path_ / name, "",
           "does not match its hash in the manifest: the file is damaged, use another checkpoint");
  return text;
}

const SafetensorsFile& CheckpointReader::open(const std::string& name) {
  std::unique_ptr<SafetensorsFile>& slot = files_[name];
  if (!slot) slot = std::make_unique<SafetensorsFile>(path_ / name);
  return *slot;
}

const std::vector<StoredSlice>& CheckpointReader::stored_slices(const StateSlice& wanted) const {
  const auto tensor = manifest_.tensors.find(wanted.tensor);
  if (tensor == manifest_.tensors.end())
    refuse(path_, wanted.tensor, "is not in this checkpoint: was it made with another model?");
  if (tensor->second.shape != wanted.global_shape)
    refuse(path_, wanted.tensor,
           fmt::format("has shape {} in this checkpoint, {} in the model", Json(tensor->second.shape).dump(),
                       Json(wanted.global_shape).dump()));
  const auto state = tensor->second.states.find(wanted.state);
  if (state == tensor->second.states.end())
    refuse(path_, wanted.tensor,
           fmt::format("has no {} in this checkpoint; one with weights only can start a new run (init_from), "
                       "not resume one",
                       wanted.state));
  return state->second;
}

void CheckpointReader::copy_slice(const StoredSlice& stored, std::span<Taker* const> takers) {
  const SafetensorsFile& file = open(stored.file);
  const SafetensorsTensor* tensor = file.find(stored.key);
  const std::int64_t numel = stored.end - stored.begin;
  if (tensor == nullptr || tensor->dtype != SafetensorsDType::kF32 || tensor->numel() != numel)
    refuse(file.path(), stored.key, fmt::format("is not there as {} f32 values: the file is damaged", numel));
  Xxh3 hash;
  std::vector<float> chunk(static_cast<std::size_t>(std::min(kChunkElements, numel)));
  for (std::int64_t first = 0; first < numel; first += kChunkElements) {
    const std::int64_t count = std::min(kChunkElements, numel - first);
    const std::span<float> values = std::span(chunk).first(static_cast<std::size_t>(count));
    file.read_f32(*tensor, first, values);
    hash.update(std::as_bytes(values));
    StateSlice part = without_data(stored, *takers[0]->wanted);
    part.begin = stored.begin + first;
    part.end = part.begin + count;
    part.data = values.data();
    for (Taker* taker : takers) copy_overlap(part, *taker->wanted, taker->covered);
  }
  if (hash.digest().hex() != stored.hash)
    refuse(file.path(), stored.key,
           "does not match its hash in the manifest: the file is damaged, use another checkpoint");
}

void CheckpointReader::load_state(std::vector<Taker> takers) {
  for (Taker& taker : takers)
    taker.covered.resize(static_cast<std::size_t>(taker.wanted->end - taker.wanted->begin));
  for (const StoredSlice& stored : stored_slices(*takers[0].wanted)) {
    std::vector<Taker*> touched;
    for (Taker& taker : takers)
      if (may_overlap(without_data(stored, *taker.wanted), *taker.wanted)) touched.push_back(&taker);
    if (!touched.empty()) copy_slice(stored, touched);
  }
  for (const auto& [wanted, covered] : takers)
    if (const auto missing = std::count(covered.begin(), covered.end(), false); missing > 0)
      refuse(path_, wanted->tensor,
             fmt::format("{} of {} elements of {} are in no slice of this checkpoint", missing,
                         covered.size(), wanted->state));
}

void CheckpointReader::load(std::span<const StateSlice> wanted) {
  std::map<std::pair<std::string, std::string>, std::vector<Taker>> states;
  for (const StateSlice& slice : wanted) {
    check_slice(slice);
    stored_slices(slice);  // refuses what is missing before anything is read
    states[{slice.tensor, slice.state}].push_back({&slice, {}});
  }
  for (auto& [name, takers] : states) load_state(std::move(takers));
}

CheckpointMeta read_checkpoint_meta(const std::filesystem::path& path) {
  return read_checkpoint_manifest(path).meta;
}

void load_checkpoint(const std::filesystem::path& path, std::span<const StateSlice> wanted) {
  CheckpointReader(path).load(wanted);
}

bool checkpoint_has_state(const std::filesystem::path& path, const std::string& state) {
  const CheckpointManifest manifest = read_checkpoint_manifest(path);
  return std::any_of(manifest.tensors.begin(), manifest.tensors.end(),
                     [&](const auto& tensor) { return tensor.second.states.contains(state); });
}

std::optional<std::string> read_checkpoint_file(const std::filesystem::path& path, const std::string& name) {
  return CheckpointReader(path).read_file(name);
}

}  // namespace terroir
