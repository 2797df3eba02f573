#include "tests/cuda_on_cpu/planted_bugs.h"

#include "tests/cuda_on_cpu/device_array.h"

namespace cuda_on_cpu {
namespace {

enum class Sync { kNone, kWarp, kBlock };
__device__ void synchronize(Sync how) {
  if (how == Sync::kWarp) __syncwarp();
  if (how == Sync::kBlock) __syncthreads();
}

// Each thread hands its value to the next one, several times: a barrier before reading and one before writing
// again.
__global__ void pass_on(int* data, Sync before_read, Sync before_write) {
  __shared__ int slots[64];
  const int thread = threadIdx.x, count = blockDim.x;
  for (int round = 0; round < 3; ++round) {
    slots[thread] = data[thread] + round;
    synchronize(before_read);
    data[thread] = slots[(thread + 1) % count];
    synchronize(before_write);
  }
}
std::vector<int> pass_on_with(int threads, Sync before_read, Sync before_write) {
  std::vector<int> start(threads);
  for (int i = 0; i < threads; ++i) start[i] = 10 * i;
  const DeviceArray<int> data(start);
  run_kernel(pass_on, 1, threads, 0, data.data(), before_read, before_write);
  return data.values();
}
std::vector<int> correct() { return pass_on_with(64, Sync::kBlock, Sync::kBlock); }
std::vector<int> correct_warp() { return pass_on_with(32, Sync::kWarp, Sync::kWarp); }
std::vector<int> no_barrier_before_read() { return pass_on_with(64, Sync::kNone, Sync::kBlock); }
std::vector<int> no_barrier_before_write() { return pass_on_with(64, Sync::kBlock, Sync::kNone); }
std::vector<int> no_warp_barrier() { return pass_on_with(32, Sync::kNone, Sync::kWarp); }
std::vector<int> warp_barrier_for_a_block() { return pass_on_with(64, Sync::kWarp, Sync::kWarp); }

__global__ void copy_through_shared(const uint4* from, uint4* to, bool with_barrier) {
  DYNAMIC_SHARED(uint4, slots);
  const int thread = threadIdx.x;
  terroir::cuda::cp_async_16(&slots[thread], &from[thread]);
  terroir::cuda::cp_async_commit();
  terroir::cuda::cp_async_wait<0>();
  if (with_barrier) __syncthreads();
  to[thread] = slots[(thread + 1) % blockDim.x];
}
std::vector<int> copy_async(bool with_barrier) {
  const DeviceArray<uint4> from(std::vector<uint4>(64, make_uint4(1, 2, 3, 4))), to(64);
  run_kernel(copy_through_shared, 1, 64, 64 * sizeof(uint4), from.data(), to.data(), with_barrier);
  std::vector<int> first;
  for (const uint4& value : to.values()) first.push_back(static_cast<int>(value.x));
  return first;
}
std::vector<int> correct_async() { return copy_async(true); }
std::vector<int> async_copy_without_barrier() { return copy_async(false); }

// Every block adds to what another may have written.
__global__ void blocks_in_a_row(int* data) { data[0] = 2 * data[0] + static_cast<int>(blockIdx.x); }
std::vector<int> race_between_blocks() {
  const DeviceArray<int> data(std::vector<int>{1});
  run_kernel(blocks_in_a_row, 8, 1, 0, data.data());
  return data.values();
}

__global__ void write_at(float* data, int index) { data[index] = 1; }
std::vector<int> global_overrun() {
  const DeviceArray<float> data(33);
  run_kernel(write_at, 1, 1, 0, data.data(), 33);
  return {};
}
std::vector<int> use_after_free() {
  float* freed = nullptr;
  {
    const DeviceArray<float> data(33);
    freed = data.data();
  }
  run_kernel(write_at, 1, 1, 0, freed, 0);
  return {};
}

__global__ void write_dynamic_shared_at(int index) {
  DYNAMIC_SHARED(float, shared);
  shared[index] = 1;
}
std::vector<int> dynamic_shared_overrun() {
  run_kernel(write_dynamic_shared_at, 1, 1, 33 * sizeof(float), 33);
  return {};
}

__global__ void write_static_shared_at(int index, float* out) {
  __shared__ float shared[33];
  float* volatile pointer = shared;  // the compiler does not know the array: AddressSanitizer's to find
  pointer[index] = 1;
  *out = shared[0];
}
std::vector<int> static_shared_overrun() {
  const DeviceArray<float> out(1);
  run_kernel(write_static_shared_at, 1, 1, 0, 33, out.data());
  return {};
}

__global__ void load_vector_at(const float* data, float* out) {
  *out = terroir::cuda::load_vector(data).v[0];
}
std::vector<int> misaligned_vector() {
  const DeviceArray<float> data(32), out(1);
  run_kernel(load_vector_at, 1, 1, 0, data.data() + 1, out.data());
  return {};
}

}  // namespace

const std::map<std::string, std::vector<int> (*)()>& planted_bugs() {
  static const std::map<std::string, std::vector<int> (*)()> kernels = {
      {"correct", correct},
      {"correct_warp", correct_warp},
      {"correct_async", correct_async},
      {"no_barrier_before_read", no_barrier_before_read},
      {"no_barrier_before_write", no_barrier_before_write},
      {"no_warp_barrier", no_warp_barrier},
      {"warp_barrier_for_a_block", warp_barrier_for_a_block},
      {"async_copy_without_barrier", async_copy_without_barrier},
      {"race_between_blocks", race_between_blocks},
      {"global_overrun", global_overrun},
      {"use_after_free", use_after_free},
      {"dynamic_shared_overrun", dynamic_shared_overrun},
      {"static_shared_overrun", static_shared_overrun},
      {"misaligned_vector", misaligned_vector},
  };
  return kernels;
}

}  // namespace cuda_on_cpu
