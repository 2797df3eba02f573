// Under mpirun: every layout of this many ranks equals one rank, and gives the bits that as many threads
// give.
#include <fmt/core.h>

#include <cstdlib>
#include <mutex>

#include "tests/trainer/layout_case.h"

namespace terroir::test {
namespace {

constexpr double kRounding = 2e-5;  // as in layout_test.cc

std::vector<LayoutCase> cases(int ranks) {
  std::vector<LayoutCase> all;
  for (int tensor = 1; tensor <= ranks; ++tensor)
    for (int pipeline = 1; tensor * pipeline <= ranks; ++pipeline)
      if (ranks % (tensor * pipeline) == 0 && 12 % tensor == 0)
        all.push_back({.model_type = pipeline > 1 ? "qwen3" : "llama",
                       .heads = 12,
                       .tensor = tensor,
                       .pipeline = pipeline});
  return all;
}

bool check(const LayoutCase& layout, World& world) {
  const Config config = make_config(layout);
  const TrainedRun reference = run_one_rank(config);
  const Difference mine = compare_with_one_rank(config, world, reference);
  std::vector<std::string> bits(static_cast<std::size_t>(world.size()));
  std::mutex mutex;
  run_threads(world.size(), {.timeout_s = 60}, [&](World& threads) {
    const Difference difference = compare_with_one_rank(config, threads, reference);
    const std::lock_guard lock(mutex);
    bits[static_cast<std::size_t>(threads.rank())] = difference.bits;
  });
  const bool equal = mine.loss < kRounding && mine.gradient < kRounding && mine.weight < kRounding;
  const bool same_bits = mine.bits == bits[static_cast<std::size_t>(world.rank())];
  if (!equal || !same_bits)
    fmt::print(stderr, "rank {}, tensor {} pipeline {}: loss {} gradient {} weight {} ({}), bits {}\n",
               world.rank(), layout.tensor, layout.pipeline, mine.loss, mine.gradient, mine.weight,
               mine.worst, same_bits ? "as with threads" : "unlike with threads");
  return equal && same_bits;
}

int run() {
  const auto world = launched_by_mpi() ? mpi_world({.timeout_s = 60}) : local_world();
  int checked = 0;
  for (const LayoutCase& layout : cases(world->size())) {
    if (!check(layout, *world)) {
      world->abort(1);
      return 1;
    }
    ++checked;
  }
  if (world->rank() == 0)
    fmt::print("{} layouts of {} ranks: as one rank, and the same bits as threads\n", checked, world->size());
  return 0;
}

}  // namespace
}  // namespace terroir::test

int main() { return terroir::test::run(); }
