#include "trainer/interop/import_hf.h"

#include <algorithm>
#include <optional>
#include <set>

#include "base/file.h"
#include "base/hash.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/rank_file.h"
#include "trainer/interop/hf_config.h"
#include "trainer/interop/hf_files.h"
#include "trainer/interop/hf_tensors.h"
#include "trainer/interop/hf_weights.h"
#include "trainer/interop/staged_folder.h"

namespace terroir {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kMaxProblems = 10;  // more say nothing new

Json read_config(const fs::path& folder) {
  const fs::path path = folder / "config.json";
  return parse_json(read_file(path, ExitCode::kCheckpoint, kMaxSmallFileBytes), path.string(),
                    ExitCode::kCheckpoint);
}

std::optional<Problem> check_tensor(const NamedShape& expected, const HfWeights& weights,
                                    const fs::path& folder) {
  const auto found = weights.entries().find(expected.name);
  if (found == weights.entries().end()) {
    const char* hint =
        expected.name == "lm_head.weight" ? "; config.json does not say tie_word_embeddings" : "";
    return Problem{{folder.string(), 0, 0, expected.name}, fmt::format("is missing in the weights{}", hint)};
  }
  const auto& [file, tensor] = found->second;
  const Place place{file->path().string(), 0, 0, expected.name};
  if (tensor->shape != expected.shape)
    return Problem{place, fmt::format("has shape {}, config.json asks for {}", Json(tensor->shape).dump(),
                                      Json(expected.shape).dump())};
  if (tensor->dtype != SafetensorsDType::kF32 && tensor->dtype != SafetensorsDType::kBF16 &&
      tensor->dtype != SafetensorsDType::kF16)
    return Problem{place, fmt::format("has dtype {}; F32, BF16 and F16 can be imported",
                                      safetensors_name(tensor->dtype))};
  return std::nullopt;
}

// A tensor beyond those of the model may be there only if leaving it out changes nothing.
std::optional<Problem> check_extra(const std::string& name, const HfWeights& weights,
                                   const ModelConfig& model) {
  const HfWeights::Entry& entry = weights.entries().at(name);
  if (name.ends_with("rotary_emb.inv_freq")) return std::nullopt;  // a buffer that old releases stored
  const Place place{entry.file->path().string(), 0, 0, name};
  if (name != "lm_head.weight" || !model.tie_word_embeddings)
    return Problem{place, "is not a tensor of such a model: it would be lost"};
  if (!same_tensor(entry, weights.entries().at("model.embed_tokens.weight")))
    return Problem{place,
                   "differs from model.embed_tokens.weight, though config.json says tie_word_embeddings"};
  return std::nullopt;
}

void check_weights(const std::vector<NamedShape>& expected, const HfWeights& weights,
                   const ModelConfig& model, const fs::path& folder) {
  std::vector<Problem> problems;
  std::set<std::string> names;
  const auto note = [&](std::optional<Problem> problem) {
    if (problem && problems.size() < kMaxProblems) problems.push_back(std::move(*problem));
  };
  for (const NamedShape& tensor : expected) {
    names.insert(tensor.name);
    note(check_tensor(tensor, weights, folder));
  }
  if (!problems.empty()) throw UserError(ExitCode::kCheckpoint, problems);
  for (const auto& [name, entry] : weights.entries())
    if (!names.contains(name)) note(check_extra(name, weights, model));
  if (!problems.empty()) throw UserError(ExitCode::kCheckpoint, problems);
}

std::string dtype_of(const std::vector<NamedShape>& tensors, const HfWeights& weights) {
  std::set<SafetensorsDType> dtypes;
  for (const NamedShape& tensor : tensors) dtypes.insert(weights.entries().at(tensor.name).tensor->dtype);
  if (dtypes.size() != 1) return "mixed";
  if (dtypes.contains(SafetensorsDType::kF32)) return "f32";
  return dtypes.contains(SafetensorsDType::kBF16) ? "bf16" : "f16";
}

CheckpointManifest write_weights(const fs::path& folder, const std::vector<NamedShape>& tensors,
                                 const HfWeights& weights) {
  std::vector<StateSlice> slices;
  for (const NamedShape& tensor : tensors)
    slices.push_back(whole_slice(tensor.name, "weight", tensor.shape, nullptr));
  std::vector<float> values;
  const SliceReader read = [&](std::size_t slice, std::int64_t first, std::int64_t count) {
    const HfWeights::Entry& entry = weights.entries().at(tensors[slice].name);
    values.resize(static_cast<std::size_t>(count));
    entry.file->read_f32(*entry.tensor, first, values);
    return std::span<const float>(values);
  };
  return write_rank_file(folder, "rank-00000.safetensors", slices, read, {});
}

void copy_small_files(const fs::path& from, const fs::path& to, CheckpointManifest& manifest) {
  for (const char* name : kKeptFiles)
    if (fs::exists(from / name))
      manifest.files.push_back(
          write_side_file(to, fmt::format("{}{}", kKeptFolder, name),
                          read_file(from / name, ExitCode::kCheckpoint, kMaxSmallFileBytes)));
  if (!fs::exists(from / "tokenizer.json")) return;
  const std::string tokenizer = read_file(from / "tokenizer.json", ExitCode::kCheckpoint);
  manifest.meta.tokenizer_sha256 = sha256_hex(tokenizer);
  manifest.files.push_back(write_side_file(to, "tokenizer.json", tokenizer));
}

}  // namespace

ImportHfReport import_hf(const ImportHfOptions& options) {
  const Json config = read_config(options.folder);
  const ModelConfig model = model_from_hf_config(config, (options.folder / "config.json").string());
  const std::vector<NamedShape> tensors = hf_tensors(model);
  const HfWeights weights(options.folder);
  check_weights(tensors, weights, model, options.folder);
  const std::string dtype = dtype_of(tensors, weights);

  StagedFolder staged(options.checkpoint, options.overwrite, kManifestName);
  CheckpointManifest manifest = write_weights(staged.path(), tensors, weights);
  manifest.meta.model = model;
  manifest.meta.extra = {{"imported", {{"from", "hf"}, {"dtype", dtype}}}};
  copy_small_files(options.folder, staged.path(), manifest);
  check_complete(manifest);
  write_file_atomically(staged.path() / kManifestName, manifest_text(manifest));
  staged.publish();
  return {model.model_type, static_cast<std::int64_t>(tensors.size()), num_parameters(tensors), dtype,
          !manifest.meta.tokenizer_sha256.empty()};
}

}  // namespace terroir
