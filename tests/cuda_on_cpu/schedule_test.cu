// Schedules: what they order, and how one is asked for.
#include "tests/cuda_on_cpu/schedule.h"

#include <gtest/gtest.h>

#include <set>
#include <stdexcept>

#include "tests/cuda_on_cpu/device_array.h"

namespace cuda_on_cpu {
namespace {

// In which order threads pass each of two phases: order[phase][rank] = block * blockDim + thread.
__global__ void log_order(int* order, int* counters) {
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  order[atomicAdd(&counters[0], 1)] = index;
  __syncthreads();
  order[gridDim.x * blockDim.x + atomicAdd(&counters[1], 1)] = index;
}

std::vector<int> order_under(const Schedule& schedule) {
  const ScopedSchedule scoped(schedule);
  DeviceArray<int> order(2 * 2 * 3), counters(std::vector<int>{0, 0});
  run_kernel(log_order, 2, 3, 0, order.data(), counters.data());
  return order.values();
}

TEST(Schedule, DefaultIsAscending) {
  EXPECT_EQ(order_under({}), (std::vector<int>{0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5}));
}

TEST(Schedule, DescendingReversesBlocksAndThreads) {
  EXPECT_EQ(order_under({.start = Schedule::Start::kDescending}),
            (std::vector<int>{5, 4, 3, 2, 1, 0, 5, 4, 3, 2, 1, 0}));
}

TEST(Schedule, LastReversesTheThreadsOnly) {
  EXPECT_EQ(order_under({.pick = Schedule::Pick::kLast}),
            (std::vector<int>{2, 1, 0, 5, 4, 3, 2, 1, 0, 5, 4, 3}));
}

TEST(Schedule, SeedRepeatsARandomOrder) {
  const Schedule random = {Schedule::Start::kShuffled, Schedule::Pick::kRandom, 5};
  EXPECT_EQ(order_under(random), order_under(random));
}

TEST(Schedule, ThereAreTwentyFourThatDiffer) {
  std::set<std::string> texts;
  std::set<std::vector<int>> orders;
  for (const Schedule& schedule : all_schedules()) {
    texts.insert(schedule.text());
    orders.insert(order_under(schedule));
  }
  EXPECT_EQ(texts.size(), 24u);
  EXPECT_GE(orders.size(), 15u);  // of 2 * (3!)^4 = 2592; some seeds agree on so few threads
}

TEST(Schedule, IsReadFromTheEnvironment) {
  for (const Schedule& schedule : all_schedules()) {
    const ScopedSchedule scoped(schedule);
    EXPECT_EQ(schedule_of_environment().text(), schedule.text());
  }
  EXPECT_EQ(schedule_of_environment().text(), Schedule().text());
}

TEST(Schedule, TextThatIsNoneIsRefused) {
  for (const char* text : {"", "ascending", "ascending first", "ascending first x", "sideways first 1"}) {
    const ScopedVariable variable(Schedule::kVariable, text);
    EXPECT_THROW(schedule_of_environment(), std::invalid_argument) << text;
  }
}

TEST(Schedule, OneWithinAnotherGivesItBack) {
  const ScopedSchedule outer({.seed = 8});
  { const ScopedSchedule inner({.seed = 9}); }
  EXPECT_EQ(schedule_of_environment().seed, 8u);
}

}  // namespace
}  // namespace cuda_on_cpu
