// How rows are cut for sums over rows: a function of their number only, so that the sums have the same bits
// for any number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace terroir {

class RowBlocks {
 public:
  explicit RowBlocks(std::int64_t rows)
      : rows_(rows), block_rows_(std::max(kMinRows, (rows + kMaxBlocks - 1) / kMaxBlocks)) {}

  std::int64_t count() const { return (rows_ + block_rows_ - 1) / block_rows_; }
  std::int64_t begin(std::int64_t block) const { return std::min(rows_, block * block_rows_); }
  std::int64_t end(std::int64_t block) const { return begin(block + 1); }

 private:
  static constexpr std::int64_t kMaxBlocks = 64;  // enough for that many threads, and a small workspace
  static constexpr std::int64_t kMinRows = 16;    // fewer would spend more on summing blocks than on rows

  std::int64_t rows_, block_rows_;
};

}  // namespace terroir
