// What a shard says about itself. The format is described in docs/formats/shard.md.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "base/hash.h"
#include "base/json.h"

namespace terroir {

inline constexpr const char* kShardFormat = "terroir-shard";
inline constexpr std::int64_t kShardFormatVersion = 1;
inline constexpr const char* kTrainSplit = "train";
inline constexpr const char* kValidationSplit = "validation";

// The attributes of the file's root group, under these names.
struct ShardInfo {
  std::string format = kShardFormat;
  std::int64_t format_version = kShardFormatVersion;
  std::string source;            // name of the corpus
  std::string language;          // as given to `data build`
  std::string license;           // SPDX expression
  std::string origin;            // where the text came from: free text or a URL; may be empty
  std::string split;             // "train" or "validation"
  std::string tokenizer_sha256;  // of the tokenizer file
  std::int64_t vocab_size = 0;   // every token is below; at most 65536: tokens are stored in 16 bits
  std::int64_t bos_id = -1;      // first token of each document; -1: none
  std::int64_t eos_id = -1;      // last token of each document; -1: none
  std::int64_t seed = 0;         // of the order of documents (its 64 bits)
  std::int64_t documents = 0;
  std::int64_t tokens = 0;
  std::int64_t text_bytes = 0;    // UTF-8 bytes of the documents' text
  std::int64_t block_tokens = 0;  // tokens per hashed block
};

// Calls visit(name, field) for every attribute, in the order of the format.
template <class Info, class Visitor>
void for_each_attribute(Info& info, Visitor&& visit) {
  visit("format", info.format);
  visit("format_version", info.format_version);
  visit("source", info.source);
  visit("language", info.language);
  visit("license", info.license);
  visit("origin", info.origin);
  visit("split", info.split);
  visit("tokenizer_sha256", info.tokenizer_sha256);
  visit("vocab_size", info.vocab_size);
  visit("bos_id", info.bos_id);
  visit("eos_id", info.eos_id);
  visit("seed", info.seed);
  visit("documents", info.documents);
  visit("tokens", info.tokens);
  visit("text_bytes", info.text_bytes);
  visit("block_tokens", info.block_tokens);
}

inline constexpr std::int64_t kMaxAttributeBytes = 4096;     // of a text attribute
inline constexpr std::int64_t kMaxNarrowVocabulary = 65536;  // largest vocabulary stored in 16 bits
inline constexpr std::int64_t kMaxShardTokens = 0xffffffff;  // offsets fit 32 bits in memory
inline constexpr std::int64_t kDefaultBlockTokens = 65536;

inline std::int64_t bytes_per_token(const ShardInfo& info) {
  return info.vocab_size <= kMaxNarrowVocabulary ? 2 : 4;
}
inline std::int64_t num_blocks(const ShardInfo& info) {
  return (info.tokens + info.block_tokens - 1) / info.block_tokens;
}

// XXH3-128 over the attributes (each "name=length:value\n"), document offsets, document ids and block hashes:
// with the block hashes it covers every bit a reader uses. Arrays as stored, little-endian; `block_hashes`
// high word first.
Hash128 shard_index_hash(const ShardInfo& info, std::span<const std::uint64_t> document_offsets,
                         std::span<const std::uint64_t> document_ids,
                         std::span<const std::uint64_t> block_hashes);

Json to_json(const ShardInfo& info);

}  // namespace terroir
