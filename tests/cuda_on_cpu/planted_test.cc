// Each detector finds the bug it is for. Compiled together with kernels/cuda/runtime.cc against the shim.
#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>

#include "base/error.h"
#include "kernels/cuda/runtime.h"
#include "tests/cuda_on_cpu/planted.h"

namespace terroir::cuda {
namespace {

using testing::HasSubstr;

constexpr int kCount = 64;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif
#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

class Planted : public testing::Test {
 protected:
  Planted() : stream_({DeviceKind::kCuda, 0}, runtime_.create_stream(0)) {
    in_ = static_cast<float*>(runtime_.allocate(0, kCount * sizeof(float)));
    out_ = static_cast<float*>(runtime_.allocate(0, kCount * sizeof(float)));
    std::vector<float> values(kCount);
    for (int i = 0; i < kCount; ++i)
      values[static_cast<std::size_t>(i)] = 1.0F + 1.0F / static_cast<float>(i + 3);
    runtime_.transfer(in_, true, values.data(), false, sizeof(float) * kCount, stream_.native());
    runtime_.synchronize_stream(stream_.native());
  }
  ~Planted() override {
    runtime_.free(0, in_);
    runtime_.free(0, out_);
    runtime_.destroy_stream(stream_.native());
    cuda_on_cpu::take_failure();
  }
  std::vector<float> run(Plant plant) {
    planted(plant, stream_, in_, out_, kCount);
    runtime_.synchronize_stream(stream_.native());
    std::vector<float> result(kCount);
    runtime_.transfer(result.data(), false, out_, true, sizeof(float) * kCount, stream_.native());
    runtime_.synchronize_stream(stream_.native());
    return result;
  }
  // The number of different results under 18 schedules.
  std::size_t different_results(Plant plant) {
    std::set<std::vector<std::uint32_t>> results;
    for (const char* start : {"ascending", "descending", "shuffled"})
      for (const char* pick : {"first", "last", "random"})
        for (const char* seed : {"1", "2"}) {
          ::setenv("TERROIR_EMULATOR_SCHEDULE", fmt::format("{} {} {}", start, pick, seed).c_str(), 1);
          const float zero = 0;
          runtime_.transfer(out_, true, &zero, false, sizeof(zero), stream_.native());
          std::vector<std::uint32_t> bits;
          for (const float value : run(plant)) bits.push_back(__float_as_uint(value));
          results.insert(bits);
        }
    ::unsetenv("TERROIR_EMULATOR_SCHEDULE");
    return results.size();
  }
  std::string failure_of(Plant plant) {
    try {
      run(plant);
    } catch (const SystemError& error) {
      return error.what();
    }
    return "nothing";
  }

  Runtime runtime_;
  Stream stream_;
  float *in_, *out_;
};

TEST_F(Planted, ACorrectKernelIsCorrectUnderEverySchedule) {
  const std::vector<float> result = run(Plant::kNone);
  for (int i = 0; i < kCount; ++i)
    EXPECT_EQ(result[static_cast<std::size_t>(i)], 1.0F + 1.0F / static_cast<float>(kCount - 1 - i + 3));
  EXPECT_EQ(different_results(Plant::kNone), 1u);
}

TEST_F(Planted, AMissingBarrierGivesOtherBitsUnderOtherSchedules) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer ends the program: see AMissingBarrierIsARace";
  EXPECT_GT(different_results(Plant::kNoBarrier), 1u);
}

TEST_F(Planted, AMissingBarrierIsARace) {
  if (!kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's to find";
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(run(Plant::kNoBarrier), "data race");
}

TEST_F(Planted, ASumInTheOrderOfArrivalGivesOtherBits) {
  EXPECT_GT(different_results(Plant::kOrderDependentSum), 1u);
}

TEST_F(Planted, AnOverrunOfGlobalMemoryEndsTheProgram) {
  if (!kAddressSanitizer) GTEST_SKIP() << "AddressSanitizer's to find";
  EXPECT_DEATH(run(Plant::kGlobalOverrun), "heap-buffer-overflow");
}

TEST_F(Planted, AnOverrunOfSharedMemoryEndsTheProgram) {
  if (!kAddressSanitizer) GTEST_SKIP() << "AddressSanitizer's to find";
  EXPECT_DEATH(run(Plant::kSharedOverrun), "heap-buffer-overflow");
}

TEST_F(Planted, AMisalignedVectorEndsTheProgram) {
  if (!kAddressSanitizer) GTEST_SKIP() << "UndefinedBehaviorSanitizer's to find";
  EXPECT_DEATH(run(Plant::kMisalignedVector), "misaligned address");
}

TEST_F(Planted, ADivergentBarrierIsNamedWithBothPlaces) {
  const std::string failure = failure_of(Plant::kDivergentBarrier);
  EXPECT_THAT(failure, HasSubstr("divergent barrier"));
  EXPECT_THAT(failure, HasSubstr("planted.cu:"));
}

TEST_F(Planted, AMissingLaneIsNamed) {
  EXPECT_THAT(failure_of(Plant::kMissingLane), HasSubstr("lanes that have ended"));
}

TEST_F(Planted, AnAsynchronousCopyIsVisibleAfterItsWaitOnly) {
  for (const float value : run(Plant::kAsyncCopy)) EXPECT_TRUE(std::isfinite(value));
  int poisoned = 0;
  for (const float value : run(Plant::kAsyncCopyNotAwaited)) poisoned += std::isnan(value) ? 1 : 0;
  EXPECT_EQ(poisoned, kCount);
}

TEST_F(Planted, ALaunchThatNoGpuTakesIsRefused) {
  EXPECT_THAT(failure_of(Plant::kTooManyThreads), HasSubstr("cudaErrorInvalidConfiguration"));
}

TEST_F(Planted, WhatTheHostReadsBeforeItWaitsIsNotThereYet) {
  auto* host = static_cast<float*>(runtime_.allocate_pinned(sizeof(float) * kCount));
  planted(Plant::kNone, stream_, in_, out_, kCount);
  runtime_.transfer(host, false, out_, true, sizeof(float) * kCount, stream_.native());
  EXPECT_TRUE(std::isnan(host[0]));  // page-locked memory begins as NaN
  runtime_.synchronize_stream(stream_.native());
  EXPECT_FALSE(std::isnan(host[0]));
  runtime_.free_pinned(host);
}

TEST_F(Planted, AStreamThatDoesNotWaitForAnEventReadsTooEarly) {
  const Stream other({DeviceKind::kCuda, 0}, runtime_.create_stream(0));
  const auto second = static_cast<float*>(runtime_.allocate(0, kCount * sizeof(float)));
  void* done = runtime_.create_event(0);
  const auto first_element = [&](bool ordered) {
    float result = 0;
    runtime_.transfer(out_, true, &result, false, sizeof(float), stream_.native());
    runtime_.synchronize_stream(stream_.native());
    planted(Plant::kNone, stream_, in_, out_, kCount);
    runtime_.record_event(done, stream_.native());
    if (ordered) runtime_.stream_wait_event(other.native(), done);
    runtime_.transfer(second, true, out_, true, sizeof(float) * kCount, other.native());
    runtime_.transfer(&result, false, second, true, sizeof(float), other.native());
    runtime_.synchronize_stream(other.native());
    return result;
  };
  EXPECT_EQ(first_element(false), 0);  // what was there before the kernel
  EXPECT_GT(first_element(true), 1);
  runtime_.destroy_event(done);
  runtime_.free(0, second);
  runtime_.destroy_stream(other.native());
}

}  // namespace
}  // namespace terroir::cuda
