// The one way to use several threads inside an operation.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace terroir {

// Calls body(begin, end) over a fixed partition of [0, n) into at most `num_threads` contiguous ranges of at least
// `grain` items (the last may be shorter), each on a thread of its own, and returns when all are done. The partition
// depends only on (num_threads, n, grain). body must not throw and must not call parallel_for.
template <class Body>
void parallel_for(int num_threads, std::int64_t n, std::int64_t grain, Body&& body) {
  if (n <= 0) return;
  const std::int64_t ranges = std::clamp<std::int64_t>(n / std::max<std::int64_t>(grain, 1), 1, num_threads);
  if (ranges == 1) {
    body(std::int64_t{0}, n);
    return;
  }
#pragma omp parallel for num_threads(static_cast<int>(ranges)) schedule(static, 1)
  for (std::int64_t i = 0; i < ranges; ++i) body(n * i / ranges, n * (i + 1) / ranges);
}

}  // namespace terroir
