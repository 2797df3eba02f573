// In which order one source's windows are taken.
#pragma once

#include <cstdint>
#include <string_view>

#include "data/mixture/permutation.h"

namespace terroir {

// A source's stored tokens are cut into cells of `cell_tokens` (the last may be shorter) and cells into
// windows of `sequence_length` (what is left of the last cell is not used in this pass). An epoch takes every
// window once: cells in the order of a permutation keyed by (seed, source name, epoch), windows inside a cell
// as stored. A pure function of its arguments; constant time.
class WindowOrder {
 public:
  // REQUIRES: cell_tokens is a multiple of sequence_length; num_tokens >= sequence_length.
  WindowOrder(std::uint64_t seed, std::string_view source_name, std::int64_t num_tokens,
              std::int64_t cell_tokens, std::int64_t sequence_length);

  std::int64_t windows_per_epoch() const { return windows_per_epoch_; }
  // First stored token of the window that draw number `draw` >= 0 takes; draws past an epoch begin the next
  // one.
  std::int64_t window_start(std::int64_t draw) const;

 private:
  PhiloxKey key_;
  std::int64_t cell_tokens_, sequence_length_;
  std::int64_t num_cells_;          // that give at least one window
  std::int64_t windows_per_cell_;   // of a whole cell
  std::int64_t last_cell_windows_;  // of cell num_cells_ - 1
  std::int64_t windows_per_epoch_;
};

}  // namespace terroir
