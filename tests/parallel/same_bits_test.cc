// `threads` and `mpi` give the same bits: every rank repeats its mpi results with threads of its own.
#include <gtest/gtest.h>

#include "base/hash.h"
#include "tests/parallel/rank_data.h"
#include "tests/parallel/worlds.h"

namespace terroir::test {
namespace {

template <class T>
void add_results(World& world, Xxh3& hash) {
  const auto group = world.group(all_ranks(world), Queue::kData, "data");
  for (const std::int64_t n : {5, 1000, 20000}) {
    std::vector<T> sums = rank_values<T>(world.rank(), n, 1);
    group->all_reduce(view_of(sums), ReduceOp::kSum, Stream(), "sums").wait();
    hash.update(std::as_bytes(std::span(sums)));

    std::vector<T> in = rank_values<T>(world.rank(), n, 2);
    const Range mine = split_range(n, world.size(), world.rank());
    std::vector<T> part(static_cast<std::size_t>(mine.size()));
    group->reduce_scatter(view_of(in), view_of(part), Stream(), "parts").wait();
    group->all_gather(view_of(part), view_of(in), Stream(), "all").wait();
    hash.update(std::as_bytes(std::span(in)));
  }
}

std::string digest(World& world) {
  Xxh3 hash;
  add_results<float>(world, hash);
  add_results<BFloat16>(world, hash);
  add_results<double>(world, hash);
  add_results<std::int64_t>(world, hash);
  return hash.digest().hex();
}

TEST(SameBits, AsThreads) {
  on_every_world([](World& world) {
    const std::string over_mpi = digest(world);
    run_threads(world.size(), {.timeout_s = 30},
                [&](World& threads) { EXPECT_EQ(digest(threads), over_mpi); });
  });
}

}  // namespace
}  // namespace terroir::test
