#include "data/shard/verify_shards.h"

#include <algorithm>
#include <span>
#include <vector>

#include "base/file.h"
#include "data/shard/isolate.h"
#include "data/shard/manifest.h"
#include "data/shard/shard_reader.h"

namespace terroir {
namespace {

constexpr std::uint64_t kSlowestBytesPerSecond =
    20'000'000;  // of CPU time: hashing alone is a hundred times faster

Json read_isolated(const std::filesystem::path& path, bool all_blocks) {
  const std::uint64_t file_bytes = InputFile(path, ExitCode::kData).size();
  IsolationLimits limits;
  limits.memory_bytes += 4 * file_bytes;  // offsets and ids are held in memory
  limits.cpu_seconds += file_bytes / kSlowestBytesPerSecond;
  return Json::parse(run_isolated(path.string(), limits, [&path, all_blocks] {
    const ShardReader shard(path);
    if (all_blocks) shard.verify_all_blocks();
    Json json = to_json(shard.info());
    json["index_hash"] = shard.index_hash().hex();
    // Attributes are text of unknown origin: what is not UTF-8 must not break the way back.
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }));
}

std::string file_sha256(const InputFile& file) {
  Sha256 sha;
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  for (std::uint64_t at = 0; at < file.size(); at += buffer.size()) {
    const auto part = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), file.size() - at));
    file.read_at(at, part);
    sha.update(part);
  }
  return sha.hex();
}

void verify_file(const std::filesystem::path& path, const ManifestShard& expected) {
  const InputFile file(path, ExitCode::kData);
  const auto refuse = [&path](const std::string& message) {
    throw UserError(ExitCode::kData, Place{path.string()}, message + ": copy or build it again");
  };
  if (file.size() != expected.bytes)
    refuse(fmt::format("has {} bytes, the manifest says {}", file.size(), expected.bytes));
  if (const std::string sha256 = file_sha256(file); sha256 != expected.sha256)
    refuse(fmt::format("has SHA-256 {}, the manifest says {}", sha256, expected.sha256));
}

void compare(const std::filesystem::path& path, const Json& shard, const Manifest& manifest,
             const ManifestShard& expected) {
  const Json same = {{"source", manifest.source},         {"language", manifest.language},
                     {"license", manifest.license},       {"origin", manifest.origin},
                     {"vocab_size", manifest.vocab_size}, {"tokenizer_sha256", manifest.tokenizer_sha256},
                     {"split", expected.split},           {"documents", expected.documents},
                     {"tokens", expected.tokens},         {"text_bytes", expected.text_bytes}};
  for (const auto& [name, value] : same.items())
    if (shard[name] != value)
      throw UserError(ExitCode::kData, Place{path.string(), 0, 0, name},
                      fmt::format("is {}, the manifest says {}", shard[name].dump(), value.dump()));
}

}  // namespace

Json inspect_shard(const std::filesystem::path& path) { return read_isolated(path, false); }
Json verify_shard(const std::filesystem::path& path) { return read_isolated(path, true); }

void verify_manifest(const std::filesystem::path& path,
                     const std::function<void(const std::string&)>& progress) {
  const Manifest manifest = read_manifest(path);
  for (const ManifestShard& expected : manifest.shards) {
    const std::filesystem::path file = path.parent_path() / expected.file;
    progress(file.string());
    verify_file(file, expected);
    compare(file, verify_shard(file), manifest, expected);
  }
}

}  // namespace terroir
