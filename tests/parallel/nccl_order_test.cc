// The order of NCCL's stream and the caller's, which run beside each other: under every choice of the
// emulated GPU which stream goes first.
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/tensor/elementwise.h"
#include "tests/parallel/nccl_gpus.h"

namespace terroir::test {
namespace {

constexpr int kRanks = 3;
constexpr std::int64_t kCount = 50;

class NcclOrder : public testing::TestWithParam<const char*> {
 protected:
  NcclOrder() { ::setenv("TERROIR_EMULATOR_STREAMS", GetParam(), 1); }
  ~NcclOrder() override { ::unsetenv("TERROIR_EMULATOR_STREAMS"); }

  static void expect_all(const std::vector<float>& values, float wanted) {
    EXPECT_EQ(values, std::vector<float>(values.size(), wanted));
  }
  static void run(const std::function<void(Gpu&)>& body) {
    for (const Outcome& outcome : on_gpus(kRanks, 60, body)) EXPECT_EQ(outcome.error, "no error");
  }
};

TEST_P(NcclOrder, AnOperationStartsAfterWhatItsStreamProduced) {
  run([](Gpu& gpu) {
    const auto group = gpu.group();
    const Buffer memory = gpu.buffer(kCount);
    const View x = memory.view(DType::kF32, {kCount});
    for (int round = 1; round <= 5; ++round) {
      fill(gpu.ctx, x, static_cast<float>(round));
      Work work = group->all_reduce(x, ReduceOp::kSum, gpu.ctx.stream, "x");
      gpu.barrier();  // enqueued everywhere, before any host waits
      work.wait();
      expect_all(gpu.read(x), static_cast<float>(kRanks * round));
    }
  });
}

TEST_P(NcclOrder, WhatIsEnqueuedAfterWaitSeesTheResult) {
  run([](Gpu& gpu) {
    const auto group = gpu.group();
    const Buffer memory = gpu.buffer(2 * kCount);
    const View x = memory.view(DType::kF32, {kCount}),
               copied = memory.view(DType::kF32, {kCount}, kCount * 4);
    for (int round = 1; round <= 5; ++round) {
      fill(gpu.ctx, x, static_cast<float>(round));
      gpu.finish();
      group->all_reduce(x, ReduceOp::kSum, gpu.ctx.stream, "x").wait();
      copy(gpu.ctx, x, copied);
      expect_all(gpu.read(copied), static_cast<float>(kRanks * round));
    }
  });
}

TEST_P(NcclOrder, WhatIsEnqueuedBeforeWaitRunsBeside) {
  run([](Gpu& gpu) {
    const auto group = gpu.group();
    const Buffer memory = gpu.buffer(2 * kCount);
    const View x = memory.view(DType::kF32, {kCount}), other = memory.view(DType::kF32, {kCount}, kCount * 4);
    const Buffer pinned = Buffer::pinned(4, gpu.ctx.stream.device());  // to free it waits for the device
    const View first = pinned.view(DType::kF32, {1});
    fill(gpu.ctx, x, 1);
    if (gpu.world.rank() > 0) gpu.barrier();  // rank 0 computes while the others have not called yet
    Work work = group->all_reduce(x, ReduceOp::kSum, gpu.ctx.stream, "x");
    fill(gpu.ctx, other, 7);
    if (gpu.world.rank() == 0) {
      transfer(gpu.ctx.stream, other.slice(0, 0, 1), first);
      gpu.finish();
      EXPECT_EQ(*first.data<float>(), 7);
      gpu.barrier();
    }
    work.wait();
    expect_all(gpu.read(x), kRanks);
  });
}

TEST_P(NcclOrder, MessagesOfBothDirectionsDoNotWaitForEachOther) {
  run([](Gpu& gpu) {
    const auto forward = gpu.group(Queue::kPipelineForward, "forward");
    const int next = (gpu.world.rank() + 1) % kRanks, previous = (gpu.world.rank() + kRanks - 1) % kRanks;
    const Buffer memory = gpu.buffer(2 * kCount);
    const View out = memory.view(DType::kF32, {kCount}), in = memory.view(DType::kF32, {kCount}, kCount * 4);
    Work receive = forward->recv(in, previous, gpu.ctx.stream, "in");  // long before its message
    fill(gpu.ctx, out, static_cast<float>(gpu.world.rank()));
    gpu.finish();
    forward->send(out, next, gpu.ctx.stream, "out").wait();
    receive.wait();
    expect_all(gpu.read(in), static_cast<float>(previous));
  });
}

INSTANTIATE_TEST_SUITE_P(Streams, NcclOrder, testing::Values("lazy", "eager", "others_first"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace terroir::test
