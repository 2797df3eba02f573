#include "trainer/checkpoint/manifest.h"

#include <algorithm>
#include <optional>
#include <set>

#include "base/file.h"
#include "base/hash.h"
#include "trainer/checkpoint/model_json.h"

namespace terroir {
namespace {

constexpr const char* kFormat = "terroir-checkpoint";
constexpr std::int64_t kFormatVersion = 1;

// The text ends in these, around the 32 digits of the hash. Of fixed length, so that it is found without
// parsing.
constexpr std::string_view kHashBegin = ",\n  \"manifest_hash\": \"";
constexpr std::string_view kHashEnd = "\"\n}\n";
constexpr std::size_t kHashDigits = 32;

std::string hash_of(std::string_view text) { return xxh3_128(std::as_bytes(std::span(text))).hex(); }

[[noreturn]] void refuse(const Place& place, const std::string& message) {
  throw UserError(ExitCode::kCheckpoint, place, message);
}

template <class T>
T member(const Json& object, const std::string& name, const Place& place) {
  return json_at<T>(object, name, place, ExitCode::kCheckpoint);
}

// ---- writing: one file, slice or setting a line, so that people can read it and tools can compare it ----

std::string line_of(const StoredFile& file) {
  OrderedJson json;
  json["file"] = file.name;
  json["bytes"] = file.bytes;
  json["hash"] = file.hash;
  return json.dump();
}

std::string line_of(const StoredSlice& slice) {
  OrderedJson json;
  json["start"] = slice.box.start;
  json["shape"] = slice.box.shape;
  json["range"] = {slice.begin, slice.end};
  json["file"] = slice.file;
  json["key"] = slice.key;
  json["hash"] = slice.hash;
  return json.dump();
}

template <class Items, class Line>
std::string joined(const Items& items, const Line& line) {
  std::string text;
  for (const auto& item : items) text += (text.empty() ? "\n" : ",\n") + line(item);
  return text;
}

std::string state_text(const std::pair<const std::string, std::vector<StoredSlice>>& state) {
  return fmt::format(
      "      {}: [{}]", Json(state.first).dump(),
      joined(state.second, [](const StoredSlice& slice) { return "        " + line_of(slice); }));
}

std::string tensor_text(const std::pair<const std::string, StoredTensor>& tensor) {
  return fmt::format("    {}: {{\"shape\": {}, \"states\": {{{}}}}}", Json(tensor.first).dump(),
                     Json(tensor.second.shape).dump(), joined(tensor.second.states, state_text));
}

std::string contents_text(const CheckpointManifest& manifest) {
  return fmt::format("  \"files\": [{}],\n  \"tensors\": {{{}}}",
                     joined(manifest.files, [](const StoredFile& file) { return "    " + line_of(file); }),
                     joined(manifest.tensors, tensor_text));
}

// The first state of which the slices hold more or fewer elements than its tensor has.
struct Incomplete {
  std::string tensor, message;
};
std::optional<Incomplete> find_incomplete(const CheckpointManifest& manifest) {
  for (const auto& [name, tensor] : manifest.tensors) {
    const std::int64_t numel = whole_box(tensor.shape).numel();
    for (const auto& [state, slices] : tensor.states) {
      std::int64_t stored = 0;
      for (const StoredSlice& slice : slices) stored += slice.end - slice.begin;
      if (stored != numel)
        return Incomplete{
            name, fmt::format("slices of {} hold {} elements, the tensor has {}", state, stored, numel)};
    }
  }
  return std::nullopt;
}

// ---- reading ----

std::vector<std::int64_t> sizes_at(const Json& object, const std::string& name, const Place& place) {
  const Json list = member<Json>(object, name, place);
  if (!list.is_array()) refuse(place, name + " must be a list of integers");
  std::vector<std::int64_t> sizes;
  for (const Json& item : list) {
    if (!item.is_number_unsigned() || item.get<std::uint64_t>() > std::uint64_t{INT64_MAX})
      refuse(place, name + " must hold integers from 0");
    sizes.push_back(item.get<std::int64_t>());
  }
  return sizes;
}

// Names stay inside the checkpoint's folder: a name, or one of the folder hf.
void check_file_name(const std::string& name, const Place& place) {
  const std::string plain = name.starts_with("hf/") ? name.substr(3) : name;
  if (plain.empty() || plain.front() == '.' || plain.find('/') != std::string::npos)
    refuse(place, fmt::format("file name \"{}\" is not allowed in a checkpoint", name));
}

StoredFile parse_file(const Json& json, const Place& place) {
  StoredFile file;
  file.name = member<std::string>(json, "file", place);
  check_file_name(file.name, place);
  file.bytes =
      static_cast<std::uint64_t>(std::max<std::int64_t>(member<std::int64_t>(json, "bytes", place), 0));
  file.hash = member<std::string>(json, "hash", place);
  return file;
}

StoredSlice parse_slice(const Json& json, const std::vector<std::int64_t>& tensor_shape, const Place& place) {
  StoredSlice slice;
  slice.box = {sizes_at(json, "start", place), sizes_at(json, "shape", place)};
  const std::vector<std::int64_t> range = sizes_at(json, "range", place);
  slice.file = member<std::string>(json, "file", place);
  slice.key = member<std::string>(json, "key", place);
  slice.hash = member<std::string>(json, "hash", place);
  bool inside =
      slice.box.start.size() == tensor_shape.size() && slice.box.shape.size() == tensor_shape.size();
  for (std::size_t d = 0; inside && d < tensor_shape.size(); ++d)
    inside =
        slice.box.start[d] <= tensor_shape[d] && slice.box.shape[d] <= tensor_shape[d] - slice.box.start[d];
  if (!inside) refuse(place, "a slice's box does not lie inside the tensor");
  if (range.size() != 2 || range[0] > range[1] || range[1] > slice.box.numel())
    refuse(place, "a slice's range does not lie inside its box");
  slice.begin = range[0];
  slice.end = range[1];
  return slice;
}

void check_numel(const std::vector<std::int64_t>& shape, const Place& place) {
  std::int64_t numel = 1;
  for (const std::int64_t size : shape)
    if (__builtin_mul_overflow(numel, size, &numel))
      refuse(place, "its number of elements does not fit 64 bits");
}

StoredTensor parse_tensor(const Json& json, const std::set<std::string>& files, const Place& place) {
  StoredTensor tensor;
  tensor.shape = sizes_at(json, "shape", place);
  if (tensor.shape.empty()) refuse(place, "shape must have at least one dimension");
  check_numel(tensor.shape, place);
  const Json states = member<Json>(json, "states", place);
  if (!states.is_object()) refuse(place, "states must be an object");
  for (const auto& [state, list] : states.items()) {
    std::vector<StoredSlice>& slices = tensor.states[state];
    for (const Json& item : list) {
      slices.push_back(parse_slice(item, tensor.shape, place));
      if (!files.contains(slices.back().file)) refuse(place, "file " + slices.back().file + " is not listed");
    }
  }
  return tensor;
}

// The text without its hash, after comparing it.
std::string_view checked_body(std::string_view text, const Place& place) {
  constexpr std::size_t kTail = kHashBegin.size() + kHashDigits + kHashEnd.size();
  if (text.size() < kTail) refuse(place, "is too short for a manifest: the file is truncated");
  const std::string_view body = text.substr(0, text.size() - kTail);
  if (text.substr(body.size()) != fmt::format("{}{}{}", kHashBegin, hash_of(body), kHashEnd))
    refuse(place, "does not match its own hash: the file is damaged, use another checkpoint");
  return body;
}

void check_format(const Json& json, const Place& place) {
  if (member<std::string>(json, "format", place) != kFormat) refuse(place, "is not a checkpoint's manifest");
  const auto version = member<std::int64_t>(json, "format_version", place);
  if (version != kFormatVersion)
    refuse(place,
           fmt::format("has format version {}, this program reads version {}: use the release that wrote it",
                       version, kFormatVersion));
}

CheckpointMeta parse_meta(const Json& json, const Place& place) {
  CheckpointMeta meta;
  meta.step = member<std::int64_t>(json, "step", place);
  meta.next_sample = member<std::int64_t>(json, "next_sample", place);
  meta.model = model_from_json(member<Json>(json, "model", place), Place{place.file, 0, 0, "model"});
  meta.tokenizer_sha256 = member<std::string>(json, "tokenizer_sha256", place);
  meta.config_hash = member<std::string>(json, "config_hash", place);
  meta.plan_hash = member<std::string>(json, "plan_hash", place);
  meta.extra = member<Json>(json, "extra", place);
  return meta;
}

// "files" and "tensors" of a manifest or of a rank's part.
void parse_contents(const Json& json, const Place& place, CheckpointManifest& manifest) {
  std::set<std::string> names;
  for (const Json& item : member<Json>(json, "files", place)) {
    manifest.files.push_back(parse_file(item, place));
    if (!names.insert(manifest.files.back().name).second)
      refuse(place, "file " + manifest.files.back().name + " is listed twice");
  }
  const Json tensors = member<Json>(json, "tensors", place);
  if (!tensors.is_object()) refuse(place, "tensors must be an object");
  for (const auto& [name, item] : tensors.items())
    manifest.tensors[name] = parse_tensor(item, names, Place{place.file, 0, 0, name});
}

}  // namespace

const StoredFile* CheckpointManifest::find_file(const std::string& name) const {
  const auto found =
      std::find_if(files.begin(), files.end(), [&](const StoredFile& file) { return file.name == name; });
  return found == files.end() ? nullptr : &*found;
}

void merge(CheckpointManifest& into, CheckpointManifest part) {
  for (StoredFile& file : part.files) into.files.push_back(std::move(file));
  std::sort(into.files.begin(), into.files.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  for (auto& [name, tensor] : part.tensors) {
    StoredTensor& target = into.tensors.try_emplace(name, StoredTensor{tensor.shape, {}}).first->second;
    TERROIR_CHECK(target.shape == tensor.shape, "ranks give {} different shapes", name);
    for (auto& [state, slices] : tensor.states)
      std::move(slices.begin(), slices.end(), std::back_inserter(target.states[state]));
  }
}

void check_complete(const CheckpointManifest& manifest) {
  const std::optional<Incomplete> problem = find_incomplete(manifest);
  TERROIR_CHECK(!problem, "{}: {}", problem->tensor, problem->message);
}

std::string manifest_part_text(const CheckpointManifest& part) {
  return fmt::format("{{\n{}\n}}", contents_text(part));
}

CheckpointManifest parse_manifest_part(const std::string& text) {
  const Place place{"another rank's part of the manifest"};
  CheckpointManifest part;
  parse_contents(parse_json(text, place.file, ExitCode::kInternal), place, part);
  return part;
}

std::string manifest_text(const CheckpointManifest& manifest) {
  const CheckpointMeta& meta = manifest.meta;
  OrderedJson head;
  head["format"] = kFormat;
  head["format_version"] = kFormatVersion;
  head["step"] = meta.step;
  head["next_sample"] = meta.next_sample;
  head["model"] = model_to_json(meta.model);
  head["tokenizer_sha256"] = meta.tokenizer_sha256;
  head["config_hash"] = meta.config_hash;
  head["plan_hash"] = meta.plan_hash;
  head["extra"] = meta.extra;
  std::string body = "{";
  for (const auto& [name, value] : head.items()) body += fmt::format("\n  \"{}\": {},", name, value.dump());
  body += fmt::format("\n{}", contents_text(manifest));
  return fmt::format("{}{}{}{}", body, kHashBegin, hash_of(body), kHashEnd);
}

CheckpointManifest parse_manifest(const std::string& text, const std::string& file) {
  const Place place{file};
  const std::string body(checked_body(text, place));
  const Json json = parse_json(body + "\n}", file, ExitCode::kCheckpoint);
  check_format(json, place);
  CheckpointManifest manifest;
  manifest.meta = parse_meta(json, place);
  parse_contents(json, place, manifest);
  if (const std::optional<Incomplete> problem = find_incomplete(manifest))
    refuse(Place{file, 0, 0, problem->tensor}, problem->message);
  return manifest;
}

CheckpointManifest read_checkpoint_manifest(const std::filesystem::path& checkpoint) {
  const std::filesystem::path path = checkpoint / kManifestName;
  if (!std::filesystem::exists(path))
    throw UserError(ExitCode::kCheckpoint, Place{checkpoint.string()},
                    "has no manifest.json: not a complete checkpoint");
  return parse_manifest(read_file(path, ExitCode::kCheckpoint, JsonLimits{}.max_bytes), path.string());
}

}  // namespace terroir
