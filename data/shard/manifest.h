// NAME.manifest.json: what `data build` made, written last.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/shard/shard_writer.h"

namespace terroir {

struct ManifestShard {
  std::string file;  // beside the manifest
  std::string split;
  std::uint64_t bytes = 0;
  std::string sha256;
  std::int64_t documents = 0, tokens = 0, text_bytes = 0;
};

struct Manifest {
  std::string source, language, license, origin;
  std::string tokenizer_sha256;
  std::int64_t vocab_size = 0;
  std::int64_t documents_read = 0;  // in the input, without empty ones
  std::int64_t duplicates = 0;      // dropped
  OrderedJson build =
      OrderedJson::object();          // the options the shards depend on, for the reader's information
  std::vector<ManifestShard> shards;  // training shards first

  // Sums over the shards of one split.
  ManifestShard total(const std::string& split) const;
};

std::filesystem::path manifest_path(const std::filesystem::path& folder, const std::string& source);
OrderedJson to_json(const Manifest& manifest);
// Reads and checks types, file names (no folders), and that the totals are the shards' sums. UserError (exit
// 3).
Manifest read_manifest(const std::filesystem::path& path);

}  // namespace terroir
