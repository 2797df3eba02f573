// Streams, events and copies: in order within a stream, in any order otherwise, as late as possible.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/cuda_on_cpu/device_array.h"
#include "tests/cuda_on_cpu/runtime.h"

namespace cuda_on_cpu {
namespace {

__global__ void store(int* to, int value) { *to = value; }
__global__ void add(int* to, const int* from) { *to += *from; }

class TestEvent {
 public:
  explicit TestEvent(unsigned flags = cudaEventDefault) { cudaEventCreateWithFlags(&event_, flags); }
  ~TestEvent() { cudaEventDestroy(event_); }
  TestEvent(const TestEvent&) = delete;
  TestEvent& operator=(const TestEvent&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

class PinnedInt {
 public:
  PinnedInt() { cudaMallocHost(reinterpret_cast<void**>(&value_), sizeof(int)); }
  ~PinnedInt() { cudaFreeHost(value_); }
  PinnedInt(const PinnedInt&) = delete;
  PinnedInt& operator=(const PinnedInt&) = delete;
  int& operator*() const { return *value_; }
  int* get() const { return value_; }

 private:
  int* value_ = nullptr;
};

constexpr int kPoison = -1;  // 0xff in every byte
const dim3 one(1);

TEST(Memory, IsPoisonWhenItIsNew) {
  const DeviceArray<int> device(2);
  const PinnedInt pinned;
  EXPECT_EQ(device.values(), (std::vector<int>{kPoison, kPoison}));
  EXPECT_EQ(*pinned, kPoison);
}

TEST(Stream, RunsNothingBeforeTheHostWaits) {
  const DeviceArray<int> array(1);
  const TestStream stream;
  terroir::cuda::launch(store, one, one, 0, stream, array.data(), 7);
  EXPECT_EQ(array.values()[0], kPoison);
  stream.synchronize();
  EXPECT_EQ(array.values()[0], 7);
}

TEST(Stream, EagerRunsAtOnce) {
  const ScopedVariable policy("TERROIR_EMULATOR_STREAMS", "eager");
  const DeviceArray<int> array(1);
  const TestStream stream;
  terroir::cuda::launch(store, one, one, 0, stream, array.data(), 7);
  EXPECT_EQ(array.values()[0], 7);
}

TEST(Stream, QueryMakesProgressAndIsNotReadyWhileThereWasWork) {
  const DeviceArray<int> array(1);
  const TestStream stream;
  EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
  terroir::cuda::launch(store, one, one, 0, stream, array.data(), 7);
  terroir::cuda::launch(store, one, one, 0, stream, array.data(), 8);
  EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
  EXPECT_EQ(array.values()[0], 7);
  EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
  EXPECT_EQ(array.values()[0], 8);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

// Another rank's device may be busy with what this rank has still to call.
TEST(Memory, FreeingWaitsForItsOwnDevice) {
  const ScopedVariable gpus("TERROIR_EMULATED_GPUS", "2");
  const DeviceArray<int> array(1);
  const TestStream stream;
  terroir::cuda::launch(store, one, one, 0, stream, array.data(), 7);
  cudaSetDevice(1);
  { const DeviceArray<int> of_the_other(1); }
  EXPECT_EQ(array.values()[0], kPoison);
  cudaSetDevice(0);
  { const DeviceArray<int> of_the_same(1); }
  EXPECT_EQ(array.values()[0], 7);
}

TEST(Stream, TheHostSleepsUntilAnotherThreadHasEnqueuedWhatIsMissing) {
  const DeviceArray<int> array(1);
  const TestStream stream;
  std::atomic<bool> here = false;
  {
    const Lock lock(runtime_mutex);
    put(stream, {.may_start = [&] { return here.load(); }});
  }
  terroir::cuda::launch(store, one, one, 0, stream, array.data(), 7);
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    here = true;
    const TestStream of_the_other;
    terroir::cuda::launch(store, one, one, 0, of_the_other, array.data(), 1);
    of_the_other.synchronize();
  });
  stream.synchronize();
  other.join();
  EXPECT_TRUE(here);
}

TEST(Stream, DestroyedWithWorkStillRunsIt) {
  const DeviceArray<int> array(1);
  {
    const TestStream stream;
    terroir::cuda::launch(store, one, one, 0, stream, array.data(), 7);
  }
  EXPECT_EQ(array.values()[0], kPoison);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(array.values()[0], 7);
}

TEST(Stream, FunctionOfTheHostRunsInItsOrder) {
  const DeviceArray<int> array(1);
  const TestStream stream;
  struct Seen {
    const DeviceArray<int>* array;
    int value;
  } seen = {&array, 0};
  terroir::cuda::launch(store, one, one, 0, stream, array.data(), 7);
  cudaLaunchHostFunc(
      stream,
      [](void* data) { static_cast<Seen*>(data)->value = static_cast<Seen*>(data)->array->values()[0]; },
      &seen);
  terroir::cuda::launch(store, one, one, 0, stream, array.data(), 8);
  stream.synchronize();
  EXPECT_EQ(seen.value, 7);
}

TEST(Stream, ThatIsNoneIsRefused) {
  const DeviceArray<int> array(1);
  EXPECT_EQ(cudaMemsetAsync(array.data(), 0, 4, nullptr), cudaErrorInvalidResourceHandle);
  cudaStream_t destroyed = nullptr;
  cudaStreamCreateWithFlags(&destroyed, cudaStreamNonBlocking);
  cudaStreamDestroy(destroyed);
  EXPECT_EQ(cudaStreamSynchronize(destroyed), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamCreateWithFlags(&destroyed, cudaStreamDefault), cudaErrorInvalidValue);
  cudaGetLastError();
}

// Two streams, b waits for an event of a.
struct Ordered {
  DeviceArray<int> from{1}, to{std::vector<int>{100}};
  TestStream a, b;
  TestEvent event;
  void enqueue(bool with_wait) {
    terroir::cuda::launch(store, one, one, 0, a, from.data(), 7);
    cudaEventRecord(event, a);
    if (with_wait) cudaStreamWaitEvent(b, event, 0);
    terroir::cuda::launch(add, one, one, 0, b, to.data(), from.data());
  }
};

TEST(Event, OrdersWorkOfTwoStreamsUnderEveryPolicy) {
  for (const char* policy : {"lazy", "eager", "others_first"}) {
    const ScopedVariable variable("TERROIR_EMULATOR_STREAMS", policy);
    Ordered streams;
    streams.enqueue(true);
    streams.b.synchronize();
    EXPECT_EQ(streams.to.values()[0], 107) << policy;
  }
}

TEST(Event, ThatIsNotWaitedForOrdersNothing) {
  Ordered streams;
  streams.enqueue(false);
  streams.b.synchronize();
  EXPECT_EQ(streams.to.values()[0], 99);  // 100 + poison: a had not run
}

TEST(Event, OthersFirstFindsAMissingWaitThoughTheFirstStreamIsWaitedForFirst) {
  const ScopedVariable variable("TERROIR_EMULATOR_STREAMS", "others_first");
  Ordered streams;
  streams.enqueue(false);
  streams.a.synchronize();
  streams.b.synchronize();
  EXPECT_EQ(streams.to.values()[0], 99);
}

TEST(Event, WaitIsForTheRecordBeforeIt) {
  DeviceArray<int> first(1), second(1);
  const TestStream a, b;
  const TestEvent event;
  terroir::cuda::launch(store, one, one, 0, a, first.data(), 1);
  cudaEventRecord(event, a);
  cudaStreamWaitEvent(b, event, 0);
  terroir::cuda::launch(store, one, one, 0, a, second.data(), 2);
  cudaEventRecord(event, a);
  b.synchronize();
  EXPECT_EQ(first.values()[0], 1);
  EXPECT_EQ(second.values()[0], kPoison);
  EXPECT_EQ(cudaEventSynchronize(event), cudaSuccess);
  EXPECT_EQ(second.values()[0], 2);
}

TEST(Event, DestroyedOneStillOrdersWhoWaitsForIt) {
  DeviceArray<int> array(1);
  const TestStream a, b;
  {
    const TestEvent event;
    terroir::cuda::launch(store, one, one, 0, a, array.data(), 1);
    cudaEventRecord(event, a);
    cudaStreamWaitEvent(b, event, 0);
  }
  EXPECT_EQ(array.values()[0], kPoison);
  b.synchronize();
  EXPECT_EQ(array.values()[0], 1);
}

TEST(Event, QueryAndTimes) {
  const TestStream stream;
  const TestEvent begin, end, untimed(cudaEventDisableTiming);
  float milliseconds = -1;
  EXPECT_EQ(cudaEventQuery(begin), cudaSuccess);  // never recorded
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, end), cudaErrorInvalidResourceHandle);
  cudaEventRecord(begin, stream);
  cudaEventRecord(end, stream);
  cudaEventRecord(untimed, stream);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, end), cudaErrorNotReady);
  EXPECT_EQ(cudaEventQuery(end), cudaErrorNotReady);
  EXPECT_EQ(cudaEventSynchronize(end), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(end), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, end), cudaSuccess);
  EXPECT_GE(milliseconds, 0);
  cudaEventSynchronize(untimed);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, untimed), cudaErrorInvalidResourceHandle);
  cudaGetLastError();
}

TEST(Copy, FromPageableMemoryIsReadWhenItIsEnqueued) {
  const DeviceArray<int> array(1);
  const TestStream stream;
  int value = 7;
  cudaMemcpyAsync(array.data(), &value, sizeof(value), cudaMemcpyHostToDevice, stream);
  value = 8;
  stream.synchronize();
  EXPECT_EQ(array.values()[0], 7);
}

TEST(Copy, FromPinnedMemoryIsReadWhenItRuns) {
  const DeviceArray<int> array(1);
  const TestStream stream;
  const PinnedInt value;
  *value = 7;
  cudaMemcpyAsync(array.data(), value.get(), sizeof(int), cudaMemcpyHostToDevice, stream);
  *value = 8;  // the mistake: too early
  stream.synchronize();
  EXPECT_EQ(array.values()[0], 8);
}

TEST(Copy, ToPinnedMemoryIsSeenAfterTheWaitOnly) {
  const DeviceArray<int> array(std::vector<int>{7});
  const TestStream stream;
  const PinnedInt value;
  cudaMemcpyAsync(value.get(), array.data(), sizeof(int), cudaMemcpyDeviceToHost, stream);
  EXPECT_EQ(*value, kPoison);
  stream.synchronize();
  EXPECT_EQ(*value, 7);
}

TEST(Copy, ToPageableMemoryIsCompleteOnReturn) {
  const DeviceArray<int> array(1);
  const TestStream stream;
  terroir::cuda::launch(store, one, one, 0, stream, array.data(), 7);
  int value = 0;
  cudaMemcpyAsync(&value, array.data(), sizeof(value), cudaMemcpyDeviceToHost, stream);
  EXPECT_EQ(value, 7);
}

TEST(Copy, OfRowsLeavesTheGaps) {
  const DeviceArray<int> array(std::vector<int>(6, 0));
  const TestStream stream;
  const int rows[] = {1, 2, 3, 4};  // two rows of two, the device's are three apart
  cudaMemcpy2DAsync(array.data(), 12, rows, 8, 8, 2, cudaMemcpyHostToDevice, stream);
  stream.synchronize();
  EXPECT_EQ(array.values(), (std::vector<int>{1, 2, 0, 3, 4, 0}));
}

TEST(Copy, OfTheWrongKindOrBeyondTheEndIsRefused) {
  const DeviceArray<int> array(2);
  const TestStream stream;
  int value[3] = {};
  const auto copy = [&](void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    return cudaMemcpyAsync(to, from, bytes, kind, stream);
  };
  EXPECT_EQ(copy(array.data(), value, 4, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(copy(value, value + 1, 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(copy(array.data(), value, 12, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemsetAsync(array.data() + 1, 0, 8, stream), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(Memory, IsCountedAndRefusedWhenThereIsNotEnough) {
  std::size_t before = 0, during = 0, total = 0;
  cudaMemGetInfo(&before, &total);
  {
    const DeviceArray<char> array(1 << 20);
    cudaMemGetInfo(&during, &total);
  }
  EXPECT_EQ(before - during, std::size_t{1} << 20);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, total + 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
}

TEST(Memory, FreedTwiceOrAsAnotherKindIsRefused) {
  void *device = nullptr, *pinned = nullptr;
  cudaMalloc(&device, 16);
  cudaMallocHost(&pinned, 16);
  EXPECT_EQ(cudaFree(pinned), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFreeHost(device), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(device), cudaSuccess);
  EXPECT_EQ(cudaFree(device), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
  cudaGetLastError();
}

TEST(Device, AreAsManyAsTheEnvironmentSays) {
  const ScopedVariable variable("TERROIR_EMULATED_GPUS", "3");
  int count = 0;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 3);
  EXPECT_EQ(cudaSetDevice(3), cudaErrorInvalidDevice);
  char first[16] = {}, last[16] = {};
  cudaDeviceGetPCIBusId(first, sizeof(first), 0);
  cudaDeviceGetPCIBusId(last, sizeof(last), 2);
  EXPECT_STRNE(first, last);
  cudaGetLastError();
}

TEST(Device, LaunchIntoAStreamOfAnotherIsRefused) {
  const ScopedVariable variable("TERROIR_EMULATED_GPUS", "2");
  const TestStream stream;
  cudaSetDevice(1);
  int *to = nullptr, value = 0;
  void* arguments[] = {&to, &value};
  EXPECT_EQ(cudaLaunchKernel(store, one, one, arguments, 0, stream), cudaErrorInvalidResourceHandle);
  cudaSetDevice(0);
  cudaGetLastError();
}

__global__ void nothing() {}

TEST(Launch, OutsideTheLimitsIsRefused) {
  const TestStream stream;
  const auto launch = [&](dim3 grid, dim3 block, std::size_t shared) {
    return cudaLaunchKernel(nothing, grid, block, nullptr, shared, stream);
  };
  for (const dim3 block : {dim3(0), dim3(1025), dim3(32, 33), dim3(1, 1, 65), dim3(1, 0)})
    EXPECT_EQ(launch(one, block, 0), cudaErrorInvalidConfiguration);
  for (const dim3 grid : {dim3(0), dim3(0x80000000U), dim3(1, 65536), dim3(1, 1, 65536)})
    EXPECT_EQ(launch(grid, one, 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(one, one, (48 << 10) + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, (227 << 10) + 1),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 << 10),
            cudaSuccess);
  EXPECT_EQ(launch(one, one, 227 << 10), cudaSuccess);
  EXPECT_EQ(launch(one, dim3(32, 32), 0), cudaSuccess);
  stream.synchronize();
  cudaGetLastError();
}

__global__ void outlive(int* to, int round) {
  if (round == 1 && threadIdx.x == 0) return;
  __syncthreads();
  *to = round;
}

TEST(Launch, FailureLosesTheDeviceUntilItIsTaken) {
  const DeviceArray<int> array(1);
  const TestStream stream;
  terroir::cuda::launch(outlive, one, dim3(2), 0, stream, array.data(), 1);
  terroir::cuda::launch(outlive, one, dim3(2), 0, stream, array.data(), 2);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  EXPECT_NE(std::string(cudaGetErrorString(cudaErrorLaunchFailure)).find("streams_test.cu:"),
            std::string::npos);
  EXPECT_EQ(cudaMemsetAsync(array.data(), 0, 4, stream), cudaErrorLaunchFailure);
  EXPECT_NE(take_failure().find("divergent barrier"), std::string::npos);
  EXPECT_EQ(take_failure(), "");
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(array.values()[0], kPoison);  // what came after the failure did not run
}

// As ranks that are threads do.
TEST(Launch, ThreadsOfTheHostShareTheDevice) {
  constexpr int kThreads = 4, kRounds = 50;
  std::vector<std::thread> threads;
  std::vector<int> results(kThreads);
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([i, &results] {
      const DeviceArray<int> sum(std::vector<int>{0}), value(1);
      const TestStream stream;
      for (int round = 0; round < kRounds; ++round) {
        terroir::cuda::launch(store, one, one, 0, stream, value.data(), i);
        terroir::cuda::launch(add, one, one, 0, stream, sum.data(), value.data());
        if (round % 10 == 0) stream.synchronize();
      }
      stream.synchronize();
      results[static_cast<std::size_t>(i)] = sum.values()[0];
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(results, (std::vector<int>{0, kRounds, 2 * kRounds, 3 * kRounds}));
}

}  // namespace
}  // namespace cuda_on_cpu
