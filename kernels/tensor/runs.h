// Walks strided views of one shape as runs of contiguous elements: what elementwise CPU backends loop over.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/parallel_for.h"
#include "kernels/tensor/rows.h"

namespace terroir {

// Calls body(offsets, count) until every element was covered once: `count` elements from offsets[v] of view v
// are contiguous in each view. Work is divided among threads by elements, whatever the shape.
template <std::size_t N, class Body>
void parallel_for_each_run(int num_threads, const Rows<N>& rows, std::int64_t grain, Body&& body) {
  const std::int64_t length = rows.row_length();
  parallel_for(num_threads, rows.numel(), grain, [&](std::int64_t begin, std::int64_t end) {
    while (begin < end) {
      const std::int64_t row = begin / length, column = begin % length;
      const std::int64_t count = std::min(length - column, end - begin);
      std::array<std::int64_t, N> offsets;
      for (std::size_t v = 0; v < N; ++v) offsets[v] = rows.offset(v, row) + column;
      body(offsets, count);
      begin += count;
    }
  });
}

}  // namespace terroir
