#include "data/shard/shard_series.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"

namespace terroir {

ShardSeries::ShardSeries(std::filesystem::path folder, ShardInfo info, std::int64_t shard_tokens)
    : folder_(std::move(folder)), shard_tokens_(shard_tokens) {
  current_.info = std::move(info);
}

void ShardSeries::add(const TokenizedDocument& document) {
  const std::size_t tokens_with = current_.tokens.size() + document.tokens.size();
  if (!current_.document_ids.empty() && tokens_with > static_cast<std::size_t>(shard_tokens_))
    write_current();
  current_.tokens.insert(current_.tokens.end(), document.tokens.begin(), document.tokens.end());
  current_.document_offsets.push_back(current_.tokens.size());
  current_.document_ids.push_back(document.id);
  current_.info.text_bytes += document.text_bytes;
}

void ShardSeries::finish() {
  if (!current_.document_ids.empty()) write_current();
}

void ShardSeries::write_current() {
  const std::string name = shard_file_name(current_.info.source, current_.info.split, shards_.size());
  const WrittenShard written = write_shard(folder_ / name, current_);
  shards_.push_back({name, written.info.split, written.bytes, written.sha256, written.info.documents,
                     written.info.tokens, written.info.text_bytes});
  current_.tokens.clear();
  current_.document_offsets.assign(1, 0);
  current_.document_ids.clear();
  current_.info.text_bytes = 0;
}

std::string shard_file_name(const std::string& source, const std::string& split, std::size_t number) {
  return fmt::format("{}{}-{:05}.h5", source, split == kValidationSplit ? "-validation" : "", number);
}

bool is_shard_of(const std::string& file, const std::string& source) {
  constexpr std::string_view kExtension = ".h5";
  if (!file.starts_with(source) || !file.ends_with(kExtension)) return false;
  std::string_view middle = std::string_view(file).substr(source.size());
  middle.remove_suffix(std::min(kExtension.size(), middle.size()));
  if (middle.starts_with("-validation")) middle.remove_prefix(std::string_view("-validation").size());
  return middle.size() >= 6 && middle.front() == '-' &&
         std::all_of(middle.begin() + 1, middle.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

}  // namespace terroir
