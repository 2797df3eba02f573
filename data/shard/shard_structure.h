// The part of reading a shard that trusts HDF5: attributes, small datasets, and where the tokens lie.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "data/shard/shard_info.h"

namespace terroir {

struct ShardStructure {
  ShardInfo info;
  Hash128 index_hash;  // recomputed, equal to the stored one
  std::vector<std::uint64_t> document_offsets, document_ids;
  std::vector<std::uint64_t> block_hashes;     // [blocks, 2]: high, low
  std::vector<std::uint64_t> block_addresses;  // [blocks]
};

// Opens `path` with HDF5, reads only the names of the format and checks every size before it allocates.
// Throws UserError (exit 3). `file_bytes` bounds what the file can hold.
ShardStructure read_shard_structure(const std::filesystem::path& path, std::uint64_t file_bytes);

}  // namespace terroir
