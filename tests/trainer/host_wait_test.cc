// On the emulated GPU, which counts: with `device: cuda` the host enqueues a whole step and waits once, for
// the losses; it takes no memory.
#include <gtest/gtest.h>

#include "kernels/tensor/cuda_module.h"
#include "tests/cuda_on_cpu/host_counts.h"
#include "tests/trainer/layout_case.h"
#include "tests/trainer/running_engine.h"

namespace terroir::test {
namespace {

struct Counts {
  int waits, allocations;
};

// Of a whole run of `steps` steps, by all ranks.
Counts counts_of(const Config& config, int ranks, int steps, cuda_on_cpu::HostCounts& counts) {
  const Counts before{counts.waits, counts.allocations};
  run_threads(ranks, {.timeout_s = 60}, [&](World& host) {
    RunningEngine running(config, host);
    SampleBatch batch;
    std::int64_t sample = 0;
    for (int step = 0; step < steps; ++step)
      running.engine.train_step(step, [&]() -> const SampleBatch& {
        return batch = make_samples(sample++, config.train.micro_batch_size, config);
      });
    synchronize(running.stream);
  });
  return {counts.waits - before.waits, counts.allocations - before.allocations};
}

struct Layout {
  const char* name;
  int ranks;
  LayoutCase layout;
};
class HostWaits : public testing::TestWithParam<Layout> {};

TEST_P(HostWaits, AStepWaitsForTheLossesOnlyAndTakesNoMemory) {
  load_cuda_module();
  using Function = cuda_on_cpu::HostCounts* (*)();
  const auto find_counts = reinterpret_cast<Function>(cuda_module_symbol("cuda_on_cpu_host_counts"));
  ASSERT_NE(find_counts, nullptr);  // only the emulated GPU counts
  const auto& [name, ranks, layout] = GetParam();
  Config config = make_config(layout);
  config.device = "cuda";
  config.parallel.transport = ranks == 1 ? "host" : "nccl";
  config.precision.compute = "bf16";
  // The second step has met all that a first one meets: plans of products, records of operations.
  const Counts two = counts_of(config, ranks, 2, *find_counts()),
               five = counts_of(config, ranks, 5, *find_counts());
  EXPECT_EQ(five.waits - two.waits, 3 * ranks);
  EXPECT_EQ(five.allocations, two.allocations);
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, HostWaits,
    testing::Values(Layout{"OneRank", 1, {.global_batch = 8}}, Layout{"Data2", 2, {.global_batch = 8}},
                    Layout{"Tensor2Pipeline2", 4, {.tensor = 2, .pipeline = 2, .global_batch = 8}}),
    [](const testing::TestParamInfo<Layout>& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace terroir::test
