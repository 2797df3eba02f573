// The one way to use several threads inside an operation.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

#ifdef __SANITIZE_THREAD__
#include <thread>
#include <vector>
#endif

namespace terroir {

namespace detail {
// Calls range(0) ... range(count - 1), each on a thread of its own as far as the system has them.
template <class Range>
void run_ranges(std::int64_t count, Range&& range) {
#ifdef __SANITIZE_THREAD__
  // ThreadSanitizer cannot see the barriers of the OpenMP runtime, which is not built with it, and would
  // report every range as a race. With threads it knows, it finds the true ones.
  std::vector<std::thread> workers;
  for (std::int64_t i = 1; i < count; ++i) workers.emplace_back([&range, i] { range(i); });
  range(0);
  for (std::thread& worker : workers) worker.join();
#else
#pragma omp parallel for num_threads(static_cast <int>(count)) schedule(static, 1)
  for (std::int64_t i = 0; i < count; ++i) range(i);
#endif
}
}  // namespace detail

// Calls body(begin, end) over a fixed partition of [0, n) into at most `num_threads` contiguous ranges of at
// least `grain` items (the last may be shorter), each on a thread of its own, and returns when all are done.
// The partition depends only on (num_threads, n, grain). body must not throw and must not call parallel_for.
template <class Body>
void parallel_for(int num_threads, std::int64_t n, std::int64_t grain, Body&& body) {
  if (n <= 0) return;
  const std::int64_t ranges = std::clamp<std::int64_t>(n / std::max<std::int64_t>(grain, 1), 1, num_threads);
  if (ranges == 1) {
    body(std::int64_t{0}, n);
    return;
  }
  detail::run_ranges(ranges, [&](std::int64_t i) { body(n * i / ranges, n * (i + 1) / ranges); });
}

}  // namespace terroir
