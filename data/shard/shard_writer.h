// Writes one shard, complete or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/shard/shard_info.h"

namespace terroir {

struct ShardContent {
  ShardInfo info;  // counts and block_tokens are filled in by write_shard
  std::vector<std::uint32_t> tokens;
  std::vector<std::uint64_t> document_offsets = {0};  // [documents + 1], from 0 to tokens.size()
  std::vector<std::uint64_t> document_ids;            // [documents]
};

struct WrittenShard {
  ShardInfo info;  // complete
  std::uint64_t bytes = 0;
  std::string sha256;  // of the file
};

// The file is built by HDF5 in memory and written through AtomicFile: HDF5 reports a full disk as success
// when it closes a file, our own writes do not. Same content, same bytes. Needs about three times the tokens'
// stored size of memory. Throws SystemError (exit 5 when the disk is full). REQUIRES: at least one document,
// none empty; at most kMaxShardTokens tokens; text attributes of at most kMaxAttributeBytes without NUL.
WrittenShard write_shard(const std::filesystem::path& path, const ShardContent& content,
                         std::int64_t block_tokens = kDefaultBlockTokens);

}  // namespace terroir
