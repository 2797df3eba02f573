#include "data/mixture/window_order.h"

#include <fmt/core.h>

#include "base/error.h"

namespace terroir {

WindowOrder::WindowOrder(std::uint64_t seed, std::string_view source_name, std::int64_t num_tokens,
                         std::int64_t cell_tokens, std::int64_t sequence_length)
    : key_(philox_key(seed, fmt::format("data/order/{}", source_name))),
      cell_tokens_(cell_tokens),
      sequence_length_(sequence_length) {
  TERROIR_CHECK(sequence_length > 0 && cell_tokens > 0 && cell_tokens % sequence_length == 0,
                "cells of {} tokens, windows of {}", cell_tokens, sequence_length);
  TERROIR_CHECK(num_tokens >= sequence_length, "{} tokens give no window of {}", num_tokens, sequence_length);
  windows_per_cell_ = cell_tokens / sequence_length;
  windows_per_epoch_ =
      num_tokens / cell_tokens * windows_per_cell_ + num_tokens % cell_tokens / sequence_length;
  num_cells_ = (windows_per_epoch_ + windows_per_cell_ - 1) / windows_per_cell_;
  last_cell_windows_ = windows_per_epoch_ - (num_cells_ - 1) * windows_per_cell_;
}

std::int64_t WindowOrder::window_start(std::int64_t draw) const {
  TERROIR_CHECK(draw >= 0, "draw {}", draw);
  const std::int64_t epoch = draw / windows_per_epoch_;
  std::int64_t window = draw % windows_per_epoch_;
  const Permutation cells(static_cast<std::uint64_t>(num_cells_), key_, static_cast<std::uint64_t>(epoch));
  // The short cell stands at turn `short_turn`; later windows are moved up as if it were whole.
  const auto short_turn =
      static_cast<std::int64_t>(cells.inverse(static_cast<std::uint64_t>(num_cells_ - 1)));
  if (window >= short_turn * windows_per_cell_ + last_cell_windows_)
    window += windows_per_cell_ - last_cell_windows_;
  const std::uint64_t cell = cells.at(static_cast<std::uint64_t>(window / windows_per_cell_));
  return static_cast<std::int64_t>(cell) * cell_tokens_ + window % windows_per_cell_ * sequence_length_;
}

}  // namespace terroir
