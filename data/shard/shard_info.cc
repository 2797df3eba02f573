#include "data/shard/shard_info.h"

#include <fmt/core.h>

#include <bit>
#include <span>

namespace terroir {

static_assert(std::endian::native == std::endian::little,
              "shards are read and written as they lie in memory");

Hash128 shard_index_hash(const ShardInfo& info, std::span<const std::uint64_t> document_offsets,
                         std::span<const std::uint64_t> document_ids,
                         std::span<const std::uint64_t> block_hashes) {
  Xxh3 hash;
  for_each_attribute(info, [&hash](const char* name, const auto& value) {
    const std::string text = fmt::format("{}", value);
    const std::string line = fmt::format("{}={}:{}\n", name, text.size(), text);
    hash.update(std::as_bytes(std::span(line)));
  });
  hash.update(std::as_bytes(document_offsets));
  hash.update(std::as_bytes(document_ids));
  hash.update(std::as_bytes(block_hashes));
  return hash.digest();
}

Json to_json(const ShardInfo& info) {
  Json json = Json::object();
  for_each_attribute(info, [&json](const char* name, const auto& value) { json[name] = value; });
  return json;
}

}  // namespace terroir
