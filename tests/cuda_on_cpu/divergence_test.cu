// What a GPU would hang on or leave undefined, found with the kernel, the block, the thread and the places.
#include <gtest/gtest.h>

#include "tests/cuda_on_cpu/device_array.h"
#include "tests/cuda_on_cpu/schedule.h"

namespace cuda_on_cpu {
namespace {

std::string here(int line) { return "divergence_test.cu:" + std::to_string(line) + ":"; }

// Under every schedule, whichever thread comes first.
template <class... Arguments>
void expect_found(const std::vector<std::string>& words, const Arguments&... arguments) {
  for_each_schedule([&](const Schedule& schedule) {
    const std::string error = error_of_kernel(arguments...);
    for (const std::string& word : words)
      ASSERT_NE(error.find(word), std::string::npos)
          << "\"" << word << "\" is not in \"" << error << "\", " << schedule.text();
  });
}

constexpr int kTwoPlaces = __LINE__ + 3;
__global__ void barriers_at_two_places() {
  if (threadIdx.x < 40)
    __syncthreads();
  else
    __syncthreads();
}

TEST(Divergence, BarriersAtTwoPlacesAreFoundWithBoth) {
  expect_found({"divergent barrier", "block (0, 0, 0)", "thread ", here(kTwoPlaces), here(kTwoPlaces + 2)},
               barriers_at_two_places, 1, 64, 0);
}

__global__ void barriers_on_one_line() { threadIdx.x < 40 ? __syncthreads() : __syncthreads(); }

TEST(Divergence, BarriersOnOneLineAreToldApartByTheirColumn) {
  expect_found({"divergent barrier"}, barriers_on_one_line, 1, 64, 0);
}

__global__ void barrier_of_some() {
  if (threadIdx.x < 32) __syncthreads();
}
TEST(Divergence, BarrierThatSomeThreadsEndWithoutIsFound) {
  expect_found({"divergent barrier", "has ended", "divergence_test.cu:"}, barrier_of_some, 1, 64, 0);
}

__global__ void end_before_barrier(int n) {
  if (static_cast<int>(threadIdx.x) >= n) return;
  __syncthreads();
}
TEST(Divergence, EndBeforeABarrierIsFoundThoughGpusForgiveIt) {
  expect_found({"divergent barrier", "has ended"}, end_before_barrier, 1, 64, 0, 63);
  EXPECT_EQ(error_of_kernel(end_before_barrier, 1, 64, 0, 64), "");
}

__global__ void warp_operations_at_two_places() {
  if (threadIdx.x < 16)
    __shfl_sync(~0U, 1, 0);
  else
    __ballot_sync(~0U, 1);
}
TEST(Divergence, WarpOperationsAtTwoPlacesAreFound) {
  expect_found({"divergent warp operation", "divergence_test.cu:"}, warp_operations_at_two_places, 1, 32, 0);
}

__global__ void shuffle_after_some_have_ended() {
  if (threadIdx.x == 9) return;
  __shfl_xor_sync(~0U, 1, 1);
}
TEST(Divergence, LaneThatHasEndedAndIsInTheMaskIsFound) {
  expect_found({"ended", "divergence_test.cu:"}, shuffle_after_some_have_ended, 1, 32, 0);
}

__global__ void shuffle_with(unsigned mask) { __shfl_sync(mask, 1, 0); }
TEST(Divergence, MaskMustNameTheLaneItselfAndLanesThatExist) {
  expect_found({"not in the mask"}, shuffle_with, 1, 32, 0, 1U);
  expect_found({"lanes that do not exist"}, shuffle_with, 1, 16, 0, ~0U);
  EXPECT_EQ(error_of_kernel(shuffle_with, 1, 16, 0, 0xFFFFU), "");
}

__global__ void masks_that_differ() {
  if (threadIdx.x >= 16) return;
  __shfl_sync(threadIdx.x < 8 ? 0xFFFFU : 0x0FFFU, 1, 0);
}
TEST(Divergence, MasksThatDisagreeAreFound) {
  const std::string error = error_of_kernel(masks_that_differ, 1, 32, 0);
  EXPECT_NE(error.find("different masks, 0x00000fff and 0x0000ffff"), std::string::npos) << error;
}

__global__ void stuck() {
  if (threadIdx.x == 0)
    __syncwarp(3);
  else
    __syncthreads();
}
TEST(Divergence, ThreadsThatWaitForEachOtherAreFoundWithTheirPlaces) {
  expect_found({"wait for each other", "the barrier", "the warp operation"}, stuck, 1, 2, 0);
}

__global__ void fail_in_the_last_block() {
  if (blockIdx.x == 2) shuffle_with(1U << 31);
}
TEST(Divergence, MessageNamesTheBlock) {
  const std::string error = error_of_kernel(fail_in_the_last_block, 3, 32, 0);
  EXPECT_NE(error.find("block (2, 0, 0)"), std::string::npos) << error;
}

}  // namespace
}  // namespace cuda_on_cpu
