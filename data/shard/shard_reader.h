// Reads one shard and believes nothing that was not checked.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "base/file.h"
#include "data/shard/shard_info.h"

namespace terroir {

// HDF5 is used once, to open the named datasets and attributes of the format and nothing else; tokens are
// then read from their place in the file, without HDF5 and without a lock. Const functions may be called from
// several threads.
class ShardReader {
 public:
  // Checks the structure against the format (types, shapes, filters, nothing external or virtual, sizes
  // within the file's) and the index hash. Throws UserError (exit 3) that names the file and what does not
  // hold. HDF5 itself can crash on a hostile file: open files of unknown origin inside run_isolated() first
  // (`terroir data verify`).
  explicit ShardReader(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  std::uint64_t file_bytes() const { return file_.size(); }
  const ShardInfo& info() const { return info_; }
  Hash128 index_hash() const { return index_hash_; }  // stands for the whole content

  // Stored tokens [first, first + out.size()). A block is compared with its hash, and its tokens with the
  // vocabulary, the first time this reader touches it. Throws UserError (exit 3) that names file and block.
  // REQUIRES: the range lies inside the shard.
  void read_tokens(std::int64_t first, std::span<std::int32_t> out) const;

  // Document d is tokens [offsets[d], offsets[d + 1]). [documents + 1] entries.
  std::span<const std::uint32_t> document_offsets() const { return document_offsets_; }
  std::span<const std::uint64_t> document_ids() const { return document_ids_; }

  // Reads and checks every block, also those checked before.
  void verify_all_blocks() const;

 private:
  void verify_block(std::int64_t block) const;

  InputFile file_;
  ShardInfo info_;
  Hash128 index_hash_;
  std::vector<std::uint32_t> document_offsets_;
  std::vector<std::uint64_t> document_ids_;
  std::vector<std::uint64_t> block_hashes_;     // [blocks, 2]
  std::vector<std::uint64_t> block_addresses_;  // byte of the file each block's tokens begin at
  std::unique_ptr<std::atomic<bool>[]> block_verified_;
};

}  // namespace terroir
