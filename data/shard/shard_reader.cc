#include "data/shard/shard_reader.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "data/shard/shard_structure.h"

namespace terroir {
namespace {

// Position in `stored` of the first token that is no id of the vocabulary, or its length.
template <class Token>
std::size_t first_outside(std::span<const std::byte> stored, std::int64_t vocab_size) {
  const std::size_t count = stored.size() / sizeof(Token);
  for (std::size_t i = 0; i < count; ++i) {
    Token token;
    std::memcpy(&token, stored.data() + i * sizeof(Token), sizeof(Token));
    if (static_cast<std::int64_t>(token) >= vocab_size) return i;
  }
  return count;
}

// Widens 16-bit tokens that lie in the second half of `out`'s own memory; writing never overtakes reading.
void widen_in_place(std::span<std::int32_t> out) {
  const std::byte* narrow = std::as_bytes(out).data() + out.size() * sizeof(std::uint16_t);
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint16_t token;
    std::memcpy(&token, narrow + i * sizeof(token), sizeof(token));
    out[i] = token;
  }
}

}  // namespace

ShardReader::ShardReader(const std::filesystem::path& path) : file_(path, ExitCode::kData) {
  ShardStructure structure = read_shard_structure(path, file_.size());
  info_ = std::move(structure.info);
  index_hash_ = structure.index_hash;
  document_offsets_.assign(structure.document_offsets.begin(), structure.document_offsets.end());
  document_ids_ = std::move(structure.document_ids);
  block_hashes_ = std::move(structure.block_hashes);
  block_addresses_ = std::move(structure.block_addresses);
  block_verified_ = std::make_unique<std::atomic<bool>[]>(block_addresses_.size());
}

void ShardReader::verify_block(std::int64_t block) const {
  const std::int64_t width = bytes_per_token(info_);
  const std::int64_t first = block * info_.block_tokens;
  const std::int64_t count = std::min(info_.block_tokens, info_.tokens - first);
  std::vector<std::byte> stored(static_cast<std::size_t>(count * width));
  file_.read_at(block_addresses_[static_cast<std::size_t>(block)], stored);

  const auto index = static_cast<std::size_t>(block);
  if (xxh3_128(stored) != Hash128{block_hashes_[2 * index], block_hashes_[2 * index + 1]})
    throw UserError(
        ExitCode::kData, Place{path().string()},
        fmt::format("tokens {} to {} do not match their hash: the file is damaged, build or copy it again",
                    first, first + count - 1));
  const std::size_t outside = width == 2 ? first_outside<std::uint16_t>(stored, info_.vocab_size)
                                         : first_outside<std::uint32_t>(stored, info_.vocab_size);
  if (outside != static_cast<std::size_t>(count))
    throw UserError(ExitCode::kData, Place{path().string()},
                    fmt::format("token {} is not below the vocabulary size {}: build the shard again",
                                first + static_cast<std::int64_t>(outside), info_.vocab_size));
  block_verified_[index].store(true, std::memory_order_release);
}

void ShardReader::read_tokens(std::int64_t first, std::span<std::int32_t> out) const {
  const auto count = static_cast<std::int64_t>(out.size());
  TERROIR_CHECK(first >= 0 && first + count <= info_.tokens, "tokens {} to {} of {}", first, first + count,
                info_.tokens);
  const std::int64_t width = bytes_per_token(info_);
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t block = (first + done) / info_.block_tokens;
    const std::int64_t inside = (first + done) % info_.block_tokens;
    const std::int64_t part = std::min(info_.block_tokens - inside, count - done);
    if (!block_verified_[static_cast<std::size_t>(block)].load(std::memory_order_acquire))
      verify_block(block);
    const auto target = out.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(part));
    const std::uint64_t at =
        block_addresses_[static_cast<std::size_t>(block)] + static_cast<std::uint64_t>(inside * width);
    const auto bytes = std::as_writable_bytes(target);
    file_.read_at(at, width == 2 ? bytes.subspan(bytes.size() / 2) : bytes);
    if (width == 2) widen_in_place(target);
    done += part;
  }
}

void ShardReader::verify_all_blocks() const {
  for (std::int64_t block = 0; block < num_blocks(info_); ++block) verify_block(block);
}

}  // namespace terroir
