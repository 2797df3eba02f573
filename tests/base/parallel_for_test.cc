#include "base/parallel_for.h"

#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace terroir {
namespace {

struct Range {
  std::int64_t begin, end;
  std::thread::id thread;
  bool operator<(const Range& other) const { return begin < other.begin; }
};

std::set<Range> ranges_of(int num_threads, std::int64_t n, std::int64_t grain) {
  std::set<Range> ranges;
  std::mutex mutex;
  parallel_for(num_threads, n, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::lock_guard lock(mutex);
    ranges.insert({begin, end, std::this_thread::get_id()});
  });
  return ranges;
}

TEST(ParallelFor, CoversTheRangeExactlyOnceInPiecesWorthAThread) {
  for (const int threads : {1, 2, 3, 4, 7})
    for (const std::int64_t n : {1, 2, 3, 5, 8, 63, 64, 100, 1001})
      for (const std::int64_t grain : {0, 1, 2, 10, 64, 2000}) {
        SCOPED_TRACE(testing::Message() << threads << " threads, " << n << " items, grain " << grain);
        const std::set<Range> ranges = ranges_of(threads, n, grain);
        EXPECT_LE(ranges.size(), static_cast<std::size_t>(threads));
        std::int64_t covered = 0;
        for (const Range& range : ranges) {
          EXPECT_EQ(range.begin, covered);
          EXPECT_GT(range.end, range.begin);
          EXPECT_TRUE(ranges.size() == 1 || range.end - range.begin >= grain);
          covered = range.end;
        }
        EXPECT_EQ(covered, n);
      }
}

TEST(ParallelFor, UsesAsManyThreadsAsTheGrainAllows) {
  if (omp_get_thread_limit() < 4) GTEST_SKIP() << "OMP_THREAD_LIMIT is below 4";
  for (const auto& [threads, n, grain, wanted] :
       {std::array<int, 4>{4, 100, 1, 4}, {4, 100, 30, 3}, {4, 3, 1, 3}}) {
    std::set<std::thread::id> ids;
    for (const Range& range : ranges_of(threads, n, grain)) ids.insert(range.thread);
    EXPECT_EQ(ids.size(), static_cast<std::size_t>(wanted));
  }
}

TEST(ParallelFor, DoesNothingForNoItems) {
  EXPECT_TRUE(ranges_of(4, 0, 1).empty());
  EXPECT_TRUE(ranges_of(4, -3, 1).empty());
}

TEST(ParallelFor, RunsAShortRangeInTheCaller) {
  const std::set<Range> ranges = ranges_of(4, 10, 100);
  ASSERT_EQ(ranges.size(), 1U);
  EXPECT_EQ(ranges.begin()->thread, std::this_thread::get_id());
}

}  // namespace
}  // namespace terroir
