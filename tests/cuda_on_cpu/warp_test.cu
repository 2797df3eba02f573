// Shuffles, votes, reductions: against what the CUDA C++ Programming Guide says of each lane.
#include <gtest/gtest.h>

#include "tests/cuda_on_cpu/device_array.h"
#include "tests/cuda_on_cpu/schedule.h"

namespace cuda_on_cpu {
namespace {

template <class T>
T value_of(int lane) {
  return static_cast<T>(1000.5 + 3 * lane);
}

// out[operation][lane]
template <class T>
__global__ void shuffle_all(T* out, int width, int operand) {
  const int lane = threadIdx.x;
  const T value = value_of<T>(lane);
  out[lane] = __shfl_sync(~0U, value, operand, width);
  out[32 + lane] = __shfl_up_sync(~0U, value, operand, width);
  out[64 + lane] = __shfl_down_sync(~0U, value, operand, width);
  out[96 + lane] = __shfl_xor_sync(~0U, value, operand, width);
}

// The lane that each lane's value comes from.
std::vector<int> shuffle_sources(int width, int operand) {
  std::vector<int> sources;
  for (int lane = 0; lane < 32; ++lane) sources.push_back(lane / width * width + operand % width);
  for (int lane = 0; lane < 32; ++lane) sources.push_back(lane % width < operand ? lane : lane - operand);
  for (int lane = 0; lane < 32; ++lane)
    sources.push_back(lane % width + operand >= width ? lane : lane + operand);
  // A lane may read from its own group of `width` and from those before it.
  for (int lane = 0; lane < 32; ++lane)
    sources.push_back((lane ^ operand) / width > lane / width ? lane : lane ^ operand);
  return sources;
}

template <class T>
class Shuffle : public testing::Test {};
using ShuffledTypes = testing::Types<int, unsigned, float, double, long long, unsigned long long>;
TYPED_TEST_SUITE(Shuffle, ShuffledTypes);

TYPED_TEST(Shuffle, BringsTheValueOfTheLaneThatTheGuideNames) {
  for (const int width : {32, 16, 8, 4, 2})
    for (int operand = 0; operand < 32; ++operand) {
      DeviceArray<TypeParam> out(128);
      run_kernel(shuffle_all<TypeParam>, 1, 32, 0, out.data(), width, operand);
      const auto values = out.values();
      const auto sources = shuffle_sources(width, operand);
      for (int i = 0; i < 128; ++i)
        ASSERT_EQ(values[i], value_of<TypeParam>(sources[i]))
            << "operation " << i / 32 << ", lane " << i % 32 << ", width " << width << ", operand "
            << operand;
    }
}

__global__ void sum_by_butterfly(float* out) {
  const float mine = threadIdx.x % 32 < 16 ? 1.0F : 0.25F;
  out[threadIdx.x] = terroir::cuda::warp_sum(mine);
}

TEST(Warp, ButterflyGivesEveryLaneTheSameSumUnderEverySchedule) {
  for_each_schedule([](const Schedule& schedule) {
    DeviceArray<float> out(96);
    run_kernel(sum_by_butterfly, 1, 96, 0, out.data());
    for (const float sum : out.values()) ASSERT_EQ(sum, 20) << schedule.text();  // 16 + 16 / 4
  });
}

__global__ void shuffle_among_half(int* out) {
  if (threadIdx.x >= 16) return;
  out[threadIdx.x] = __shfl_sync(0xFFFFU, static_cast<int>(threadIdx.x), 20);
}

TEST(Warp, ValueOfALaneOutsideTheMaskIsPoison) {
  DeviceArray<int> out(16);
  run_kernel(shuffle_among_half, 1, 32, 0, out.data());
  for (const int value : out.values()) EXPECT_EQ(value, -1);
}

__global__ void vote(unsigned* out) {
  const int lane = threadIdx.x;
  const unsigned ballot = __ballot_sync(~0U, lane % 3 == 0);
  const unsigned any = __any_sync(~0U, lane == 31), none = __any_sync(~0U, 0);
  const unsigned all = __all_sync(~0U, 7), not_all = __all_sync(~0U, lane != 5);
  const unsigned active = __activemask();
  if (lane == 0) {
    const unsigned results[] = {ballot, any, none, all, not_all, active};
    for (int i = 0; i < 6; ++i) out[i] = results[i];
  }
}

TEST(Warp, VotesCountTheLanesOfTheMask) {
  DeviceArray<unsigned> out(6);
  run_kernel(vote, 1, 32, 0, out.data());
  const unsigned every_third = 0b01001001001001001001001001001001U;
  EXPECT_EQ(out.values(), (std::vector<unsigned>{every_third, 1, 0, 1, 0, ~0U}));
}

__global__ void reduce_in_halves(int* out) {
  const int lane = threadIdx.x, value = lane % 2 == 0 ? lane : -lane;
  const unsigned mask = lane < 16 ? 0xFFFFU : 0xFFFF0000U;
  int results[3];
  if (lane < 16) {  // one place for each half: they need not meet
    results[0] = __reduce_add_sync(mask, value);
    results[1] = __reduce_min_sync(mask, value);
    results[2] = __reduce_max_sync(mask, value);
  } else {
    results[0] = __reduce_add_sync(mask, value);
    results[1] = __reduce_min_sync(mask, value);
    results[2] = __reduce_max_sync(mask, value);
  }
  for (int i = 0; i < 3; ++i) out[3 * lane + i] = results[i];
}

TEST(Warp, HalvesOfAWarpReduceOnTheirOwn) {
  DeviceArray<int> out(96);
  run_kernel(reduce_in_halves, 1, 32, 0, out.data());
  const auto values = out.values();
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(values[3 * lane], -8);  // (0 - 1) + (2 - 3) + ..., eight pairs
    EXPECT_EQ(values[3 * lane + 1], lane < 16 ? -15 : -31);
    EXPECT_EQ(values[3 * lane + 2], lane < 16 ? 14 : 30);
  }
}

__global__ void reduce_bits(unsigned* out) {
  const unsigned lane = threadIdx.x;
  const unsigned both = __reduce_and_sync(~0U, lane | 0x40), any = __reduce_or_sync(~0U, lane);
  if (lane == 0) out[0] = both, out[1] = any;
}

TEST(Warp, ReducesBits) {
  DeviceArray<unsigned> out(2);
  run_kernel(reduce_bits, 1, 32, 0, out.data());
  EXPECT_EQ(out.values(), (std::vector<unsigned>{0x40, 31}));
}

// Lane l writes, its neighbour reads after the warp's barrier; the second warp has 8 lanes.
__global__ void pass_to_neighbour(int* out) {
  __shared__ int slots[40];
  const int thread = threadIdx.x, warp = thread / 32, lanes = warp == 0 ? 32 : 8;
  for (int round = 0; round < 3; ++round) {
    slots[thread] = 100 * round + thread;
    __syncwarp();
    out[40 * round + thread] = slots[32 * warp + (thread + 1) % 32 % lanes];
    __syncwarp();
  }
}

TEST(Warp, BarrierOrdersMemoryUnderEverySchedule) {
  for_each_schedule([](const Schedule& schedule) {
    DeviceArray<int> out(120);
    run_kernel(pass_to_neighbour, 1, 40, 0, out.data());
    const auto values = out.values();
    for (int round = 0; round < 3; ++round)
      for (int thread = 0; thread < 40; ++thread) {
        const int from = thread < 32 ? (thread + 1) % 32 : 32 + (thread - 31) % 8;
        ASSERT_EQ(values[40 * round + thread], 100 * round + from) << schedule.text();
      }
  });
}

}  // namespace
}  // namespace cuda_on_cpu
