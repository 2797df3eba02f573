// Coordinates, barriers, shared memory, atomics.
#include <gtest/gtest.h>

#include <numeric>

#include "tests/cuda_on_cpu/device_array.h"
#include "tests/cuda_on_cpu/schedule.h"

namespace cuda_on_cpu {
namespace {

__global__ void number_threads(int* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned index = block * blockDim.x * blockDim.y * blockDim.z + thread;
  out[index] = static_cast<int>(index);
}

TEST(Block, EveryThreadOfAThreeDimensionalGridRunsOnce) {
  for_each_schedule([](const Schedule& schedule) {
    std::vector<int> wanted(2 * 3 * 4 * 5 * 3 * 2);
    std::iota(wanted.begin(), wanted.end(), 0);
    DeviceArray<int> out(wanted.size());
    run_kernel(number_threads, dim3(2, 3, 4), dim3(5, 3, 2), 0, out.data());
    ASSERT_EQ(out.values(), wanted) << schedule.text();
  });
}

__global__ void reverse(int* data) {
  DYNAMIC_SHARED(int, shared);
  __shared__ int twice[96];
  const int thread = threadIdx.x, count = blockDim.x;
  int* mine = data + blockIdx.x * count;
  shared[thread] = mine[thread];
  __syncthreads();
  twice[thread] = 2 * shared[count - 1 - thread];
  __syncthreads();
  mine[thread] = shared[thread] + twice[(thread + 1) % count];
}

TEST(Block, BarriersOrderSharedMemoryUnderEverySchedule) {
  for_each_schedule([](const Schedule& schedule) {
    std::vector<int> data(3 * 96);
    std::iota(data.begin(), data.end(), 0);
    DeviceArray<int> array(data);
    run_kernel(reverse, 3, 96, 96 * sizeof(int), array.data());
    const auto values = array.values();
    for (int i = 0; i < 3 * 96; ++i) {
      const int thread = i % 96, begin = i - thread;
      ASSERT_EQ(values[i], i + 2 * (begin + 95 - (thread + 1) % 96)) << schedule.text();
    }
  });
}

__global__ void count_votes(int* out) {
  const int thread = threadIdx.x;
  const int count = __syncthreads_count(thread % 5 == 0);
  const int any = __syncthreads_or(thread == 3), none = __syncthreads_or(0);
  const int all = __syncthreads_and(thread + 1), not_all = __syncthreads_and(thread);
  const int results[] = {count, any, none, all, not_all};
  for (int i = 0; i < 5; ++i) out[5 * thread + i] = results[i];
}

TEST(Block, BarriersCountVotes) {
  DeviceArray<int> out(5 * 64);
  run_kernel(count_votes, 1, 64, 0, out.data());
  for (int thread = 0; thread < 64; ++thread) {
    const auto values = out.values();
    const std::vector<int> got(values.begin() + 5 * thread, values.begin() + 5 * thread + 5);
    ASSERT_EQ(got, (std::vector<int>{13, 1, 0, 1, 0})) << "thread " << thread;  // 0, 5, ..., 60
  }
}

__global__ void read_shared(unsigned* out) {
  DYNAMIC_SHARED(unsigned, shared);
  out[blockIdx.x * blockDim.x + threadIdx.x] = shared[threadIdx.x];
  shared[threadIdx.x] = 0;
}

TEST(Block, SharedMemoryIsPoisonAtTheStartOfEachBlock) {
  DeviceArray<unsigned> out(4 * 32);
  run_kernel(read_shared, 4, 32, 32 * sizeof(unsigned), out.data());
  for (const unsigned value : out.values()) ASSERT_EQ(value, ~0U);
}

// totals: [0] int, [1] maximum, [2] minimum, [3] or, [4] and, [5] wrapping counter, [6] by compare and swap
__global__ void accumulate(int* totals, unsigned* wrapped, float* sum, double* exact,
                           unsigned long long* wide) {
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(&totals[0], index);
  atomicMax(&totals[1], index);
  atomicMin(&totals[2], -index);
  atomicOr(&totals[3], 1 << (index % 8));
  atomicAnd(&totals[4], ~(1 << (index % 8)));
  atomicInc(wrapped, 9);
  int seen = atomicAdd(&totals[6], 0), expected;
  do {
    expected = seen;
    seen = atomicCAS(&totals[6], expected, expected + 2);
  } while (seen != expected);
  atomicAdd(sum, 0.5F);
  atomicAdd(exact, 0.25);
  atomicAdd(wide, 1ULL << 33);
}

TEST(Block, AtomicsLoseNothing) {
  DeviceArray<int> totals(std::vector<int>{0, -1, 1, 0, 0xFFF, 0, 0});
  DeviceArray<unsigned> wrapped(std::vector<unsigned>{0});
  DeviceArray<float> sum(std::vector<float>{0});
  DeviceArray<double> exact(std::vector<double>{0});
  DeviceArray<unsigned long long> wide(std::vector<unsigned long long>{0});
  run_kernel(accumulate, 4, 64, 0, totals.data(), wrapped.data(), sum.data(), exact.data(), wide.data());
  EXPECT_EQ(totals.values(), (std::vector<int>{255 * 128, 255, -255, 0xFF, 0xF00, 0, 512}));
  EXPECT_EQ(wrapped.values()[0], 256U % 10);
  EXPECT_EQ(sum.values()[0], 128);
  EXPECT_EQ(exact.values()[0], 64);
  EXPECT_EQ(wide.values()[0], 256ULL << 33);
}

__global__ void exchange_atomically(int* data, float* real, int* out) {
  out[0] = atomicExch(data, 7);
  out[1] = static_cast<int>(atomicExch(real, 2.5F));
  out[2] = atomicCAS(data, 8, 9);  // not equal: unchanged
  out[3] = atomicAdd(data, 1);
}

TEST(Block, AtomicsReturnTheValueBefore) {
  DeviceArray<int> data(std::vector<int>{5}), out(4);
  DeviceArray<float> real(std::vector<float>{4});
  run_kernel(exchange_atomically, 1, 1, 0, data.data(), real.data(), out.data());
  EXPECT_EQ(out.values(), (std::vector<int>{5, 4, 7, 7}));
  EXPECT_EQ(data.values()[0], 8);
  EXPECT_EQ(real.values()[0], 2.5F);
}

// The block that ends last adds up what all have written.
__global__ void sum_by_last_block(const int* data, int* partial, unsigned* ended, int* total) {
  __shared__ bool is_last;
  const int block = blockIdx.x;
  if (threadIdx.x == 0) {
    partial[block] = data[2 * block] + data[2 * block + 1];
    __threadfence();
    is_last = atomicAdd(ended, 1U) == gridDim.x - 1;
  }
  __syncthreads();
  if (!is_last || threadIdx.x != 1) return;
  __threadfence();
  int sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += partial[i];
  *total = sum;
}

TEST(Block, LastBlockSeesWhatTheOthersWroteBeforeTheirFences) {
  for_each_schedule([](const Schedule& schedule) {
    std::vector<int> data(20);
    std::iota(data.begin(), data.end(), 1);
    DeviceArray<int> in(data), partial(10), total(1);
    DeviceArray<unsigned> ended(std::vector<unsigned>{0});
    run_kernel(sum_by_last_block, 10, 32, 0, in.data(), partial.data(), ended.data(), total.data());
    ASSERT_EQ(total.values()[0], 210) << schedule.text();
  });
}

}  // namespace
}  // namespace cuda_on_cpu
