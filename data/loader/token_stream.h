// The stored tokens of one source and split, its shards end to end, and windows cut out of them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "data/shard/shard_reader.h"

namespace terroir {

// Where one window goes: four spans of the same length.
struct WindowRow {
  std::span<std::int32_t> tokens, targets, positions, documents;
};

class TokenStream {
 public:
  TokenStream() = default;
  void append(std::unique_ptr<ShardReader> shard);

  std::int64_t num_tokens() const { return num_tokens_; }
  const std::vector<std::unique_ptr<ShardReader>>& shards() const { return shards_; }

  // Fills `row` from stored token `start` on, as SampleBatch describes; past the last token with padding:
  // token 0, target -1, a document of its own. REQUIRES: start < num_tokens(). Throws as
  // ShardReader::read_tokens.
  void read_window(std::int64_t start, const WindowRow& row) const;

 private:
  std::vector<std::unique_ptr<ShardReader>> shards_;
  std::vector<std::int64_t> shard_starts_;  // first stored token of each shard
  std::int64_t num_tokens_ = 0;
};

}  // namespace terroir
