#include "data/loader/token_stream.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace terroir {
namespace {

constexpr std::int32_t kNoTarget = -1;

WindowRow sub_row(const WindowRow& row, std::size_t begin, std::size_t count) {
  return {row.tokens.subspan(begin, count), row.targets.subspan(begin, count),
          row.positions.subspan(begin, count), row.documents.subspan(begin, count)};
}

// One document's part of a window, tokens already read: `target_of_last` belongs to its last token.
void fill_document(const WindowRow& row, std::int32_t number, std::int32_t target_of_last) {
  std::copy(row.tokens.begin() + 1, row.tokens.end(), row.targets.begin());
  row.targets.back() = target_of_last;
  std::iota(row.positions.begin(), row.positions.end(), 0);
  std::fill(row.documents.begin(), row.documents.end(), number);
}

// Tokens [first, first + row's length) of one shard; returns the number the next document gets.
std::int32_t fill_from_shard(const ShardReader& shard, std::int64_t first, const WindowRow& row,
                             std::int32_t number) {
  shard.read_tokens(first, row.tokens);
  const std::span<const std::uint32_t> offsets = shard.document_offsets();
  const std::int64_t end = first + static_cast<std::int64_t>(row.tokens.size());
  // First boundary past `first`: the end of the document that holds it.
  auto boundary = std::upper_bound(offsets.begin(), offsets.end(), static_cast<std::uint32_t>(first));
  for (std::int64_t at = first; at < end; ++boundary, ++number) {
    const std::int64_t document_end = *boundary;
    const std::int64_t part_end = std::min(document_end, end);
    std::int32_t target_of_last = kNoTarget;
    if (part_end < document_end)
      shard.read_tokens(part_end, std::span(&target_of_last, 1));  // the window cuts it
    fill_document(sub_row(row, static_cast<std::size_t>(at - first), static_cast<std::size_t>(part_end - at)),
                  number, target_of_last);
    at = part_end;
  }
  return number;
}

}  // namespace

void TokenStream::append(std::unique_ptr<ShardReader> shard) {
  shard_starts_.push_back(num_tokens_);
  num_tokens_ += shard->info().tokens;
  shards_.push_back(std::move(shard));
}

void TokenStream::read_window(std::int64_t start, const WindowRow& row) const {
  TERROIR_CHECK(start >= 0 && start < num_tokens_, "window at token {} of {}", start, num_tokens_);
  const std::size_t length = row.tokens.size();
  const auto after = std::upper_bound(shard_starts_.begin(), shard_starts_.end(), start);
  auto shard = static_cast<std::size_t>(after - shard_starts_.begin()) - 1;
  std::int32_t number = 0;
  std::size_t done = 0;
  for (; done < length && shard < shards_.size(); ++shard) {
    const std::int64_t first = start + static_cast<std::int64_t>(done) - shard_starts_[shard];
    const auto available = static_cast<std::size_t>(shards_[shard]->info().tokens - first);
    const std::size_t part = std::min(available, length - done);
    number = fill_from_shard(*shards_[shard], first, sub_row(row, done, part), number);
    done += part;
  }
  if (done == length) return;
  const WindowRow padding = sub_row(row, done, length - done);
  std::fill(padding.tokens.begin(), padding.tokens.end(), 0);
  fill_document(padding, number, kNoTarget);
  std::fill(padding.targets.begin(), padding.targets.end(), kNoTarget);
}

}  // namespace terroir
