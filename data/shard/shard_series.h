// Documents of one split, written to as many shards as they need.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "data/shard/document_buckets.h"
#include "data/shard/manifest.h"
#include "data/shard/shard_writer.h"

namespace terroir {

class ShardSeries {
 public:
  // `info` describes every shard but for the counts. A shard is full when the next document would take it
  // past `shard_tokens`; a longer document has a shard of its own.
  ShardSeries(std::filesystem::path folder, ShardInfo info, std::int64_t shard_tokens);

  void add(const TokenizedDocument& document);
  // Writes what is left. Call once, after the last add().
  void finish();
  const std::vector<ManifestShard>& shards() const { return shards_; }

 private:
  void write_current();

  std::filesystem::path folder_;
  std::int64_t shard_tokens_;
  ShardContent current_;
  std::vector<ManifestShard> shards_;
};

// "ko-00003.h5", "ko-validation-00000.h5".
std::string shard_file_name(const std::string& source, const std::string& split, std::size_t number);
// Whether `file` is a name shard_file_name() gives for the source.
bool is_shard_of(const std::string& file, const std::string& source);

}  // namespace terroir
