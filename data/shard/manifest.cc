#include "data/shard/manifest.h"

#include "base/file.h"

namespace terroir {
namespace {

constexpr const char* kFormat = "terroir-manifest";
constexpr std::int64_t kFormatVersion = 1;

OrderedJson total_json(const ManifestShard& total) {
  return {{"documents", total.documents}, {"tokens", total.tokens}, {"text_bytes", total.text_bytes}};
}

ManifestShard shard_from_json(const Json& json, const Place& place) {
  const auto text = [&](const char* name) {
    return json_at<std::string>(json, name, place, ExitCode::kData);
  };
  const auto count = [&](const char* name) {
    const auto value = json_at<std::int64_t>(json, name, place, ExitCode::kData);
    if (value < 0)
      throw UserError(ExitCode::kData, Place{place.file, 0, 0, place.key + "." + name}, "is negative");
    return value;
  };
  ManifestShard shard;
  shard.file = text("file");
  shard.split = text("split");
  shard.bytes = static_cast<std::uint64_t>(count("bytes"));
  shard.sha256 = text("sha256");
  shard.documents = count("documents");
  shard.tokens = count("tokens");
  shard.text_bytes = count("text_bytes");
  if (shard.file.empty() || shard.file.find('/') != std::string::npos)
    throw UserError(ExitCode::kData, place,
                    fmt::format("\"{}\" is not the name of a file beside it", shard.file));
  return shard;
}

void check_totals(const Json& json, const Manifest& manifest, const std::string& file) {
  for (const char* split : {kTrainSplit, kValidationSplit})
    if (json_at<Json>(json, split, Place{file}, ExitCode::kData) != Json(total_json(manifest.total(split))))
      throw UserError(ExitCode::kData, Place{file, 0, 0, split},
                      "is not the sum over the shards: the file was changed");
}

}  // namespace

ManifestShard Manifest::total(const std::string& split) const {
  ManifestShard total;
  for (const ManifestShard& shard : shards) {
    if (shard.split != split) continue;
    total.bytes += shard.bytes;
    total.documents += shard.documents;
    total.tokens += shard.tokens;
    total.text_bytes += shard.text_bytes;
  }
  return total;
}

std::filesystem::path manifest_path(const std::filesystem::path& folder, const std::string& source) {
  return folder / (source + ".manifest.json");
}

OrderedJson to_json(const Manifest& manifest) {
  OrderedJson shards = OrderedJson::array();
  for (const ManifestShard& shard : manifest.shards)
    shards.push_back({{"file", shard.file},
                      {"split", shard.split},
                      {"bytes", shard.bytes},
                      {"sha256", shard.sha256},
                      {"documents", shard.documents},
                      {"tokens", shard.tokens},
                      {"text_bytes", shard.text_bytes}});
  return {{"format", kFormat},
          {"format_version", kFormatVersion},
          {"source", manifest.source},
          {"language", manifest.language},
          {"license", manifest.license},
          {"origin", manifest.origin},
          {"tokenizer_sha256", manifest.tokenizer_sha256},
          {"vocab_size", manifest.vocab_size},
          {"documents_read", manifest.documents_read},
          {"duplicates", manifest.duplicates},
          {kTrainSplit, total_json(manifest.total(kTrainSplit))},
          {kValidationSplit, total_json(manifest.total(kValidationSplit))},
          {"build", manifest.build},
          {"shards", shards}};
}

Manifest read_manifest(const std::filesystem::path& path) {
  const std::string file = path.string();
  const Json json = parse_json(read_file(path, ExitCode::kData), file, ExitCode::kData);
  const auto text = [&](const char* name) {
    return json_at<std::string>(json, name, Place{file}, ExitCode::kData);
  };
  const auto count = [&](const char* name) {
    return json_at<std::int64_t>(json, name, Place{file}, ExitCode::kData);
  };
  if (text("format") != kFormat || count("format_version") != kFormatVersion)
    throw UserError(ExitCode::kData, Place{file},
                    fmt::format("is no manifest of format {} version {}", kFormat, kFormatVersion));
  Manifest manifest;
  manifest.source = text("source");
  manifest.language = text("language");
  manifest.license = text("license");
  manifest.origin = text("origin");
  manifest.tokenizer_sha256 = text("tokenizer_sha256");
  manifest.vocab_size = count("vocab_size");
  manifest.documents_read = count("documents_read");
  manifest.duplicates = count("duplicates");
  manifest.build = json_at<Json>(json, "build", Place{file}, ExitCode::kData);
  const Json shards = json_at<Json>(json, "shards", Place{file}, ExitCode::kData);
  if (!shards.is_array()) throw UserError(ExitCode::kData, Place{file, 0, 0, "shards"}, "must be a list");
  for (std::size_t i = 0; i < shards.size(); ++i)
    manifest.shards.push_back(shard_from_json(shards[i], Place{file, 0, 0, fmt::format("shards[{}]", i)}));
  check_totals(json, manifest, file);
  return manifest;
}

}  // namespace terroir
