// What ranks hear over NCCL when one of them fails, is late or does something else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "kernels/tensor/cuda_module.h"
#include "tests/cuda_on_cpu/nccl_on_cpu.h"
#include "tests/parallel/nccl_gpus.h"
#include "tests/parallel/worlds.h"

namespace terroir::test {
namespace {

using testing::AllOf;
using testing::Eq;
using testing::HasSubstr;

constexpr double kSoon = 20;  // seconds; those who do not find out wait for a minute

// At most for a while: what does not fail must not hang.
void sleep_until(const std::atomic<int>& count, int wanted) {
  for (int i = 0; i < 20000 && count < wanted; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

// The rank enqueues it, and its host waits for the device.
void reduce(Gpu& gpu, Communicator& group, const View& x, std::string_view what) {
  group.all_reduce(x, ReduceOp::kSum, gpu.ctx.stream, what).wait();
  gpu.finish();
}

TEST(NcclFailure, ARankThatNeverEnqueuesEndsAllWithRankStepCollectiveAndTensor) {
  for (const int num_ranks : {2, 4}) {
    std::atomic<int> num_failed = 0;
    const auto outcomes = on_gpus(num_ranks, 0.3, [&](Gpu& gpu) {
      const auto group = gpu.group();
      const Buffer memory = gpu.buffer(4);
      gpu.world.set_position(12, "backward");
      const bool frozen = gpu.world.rank() == num_ranks - 1;
      if (frozen) sleep_until(num_failed, num_ranks - 1);
      try {
        reduce(gpu, *group, memory.view(DType::kF32, {4}), "gradients of layer 3");
      } catch (const TransportError& error) {
        EXPECT_EQ(error.exit_code(), ExitCode::kTransport);
        ++num_failed;
        if (!frozen) sleep_until(num_failed, num_ranks);
        throw;
      }
    });
    for (int rank = 0; rank < num_ranks; ++rank) {
      const Outcome& outcome = outcomes[static_cast<std::size_t>(rank)];
      EXPECT_EQ(outcome.error,
                fmt::format("NCCL: rank {}, step 12 (backward): all_reduce of 'gradients of layer 3' f32[4] "
                            "over group data: not complete after 0.3 s: a rank died, froze or is cut off",
                            rank));
      EXPECT_LT(outcome.seconds, kSoon);
    }
  }
}

TEST(NcclFailure, ALostMessageIsNamed) {
  std::atomic<int> num_failed = 0;
  const auto outcomes = on_gpus(2, 0.3, [&](Gpu& gpu) {
    const auto group = gpu.group(Queue::kPipelineForward, "pipeline");
    const Buffer memory = gpu.buffer(6);
    if (gpu.world.rank() == 0) {
      sleep_until(num_failed, 1);
      return;
    }
    gpu.world.set_position(3, "forward");
    try {
      group->recv(memory.view(DType::kF32, {2, 3}), 0, gpu.ctx.stream, "activation").wait();
      gpu.finish();
    } catch (const TransportError&) {
      ++num_failed;
      throw;
    }
  });
  EXPECT_THAT(outcomes[1].error, HasSubstr("rank 1, step 3 (forward): recv of 'activation' f32[2, 3] over "
                                           "group pipeline: not complete after 0.3 s"));
}

TEST(NcclFailure, AnErrorThatNcclReportsEndsTheOperationBeforeItsDeadline) {
  load_cuda_module();
  const auto break_network =
      reinterpret_cast<void (*)(bool)>(cuda_module_symbol("nccl_on_cpu_break_network"));
  ASSERT_NE(break_network, nullptr);
  std::atomic<int> num_broken = 0;
  const auto outcomes = on_gpus(2, 60, [&](Gpu& gpu) {
    const auto group = gpu.group();
    const Buffer memory = gpu.buffer(4);
    if (gpu.world.rank() == 1) sleep_until(num_broken, 1);
    Work work = group->all_reduce(memory.view(DType::kF32, {4}), ReduceOp::kSum, gpu.ctx.stream, "loss");
    work.wait();
    if (gpu.world.rank() == 0) {
      break_network(true);
      ++num_broken;
    }
    gpu.finish();
  });
  break_network(false);
  EXPECT_THAT(outcomes[0].error, AllOf(HasSubstr("rank 0, step 0"), HasSubstr("all_reduce of 'loss'"),
                                       HasSubstr("remote process exited or there was a network error")));
  EXPECT_LT(outcomes[0].seconds, kSoon);
  EXPECT_THAT(outcomes[1].error, HasSubstr("remote process exited or there was a network error"));
  EXPECT_LT(outcomes[1].seconds, kSoon);
}

TEST(NcclFailure, WhatCannotBeEnqueuedIsNamedAndEndsTheOthers) {
  load_cuda_module();
  const auto break_network =
      reinterpret_cast<void (*)(bool)>(cuda_module_symbol("nccl_on_cpu_break_network"));
  std::atomic<int> num_enqueued = 0;
  const auto outcomes = on_gpus(2, 60, [&](Gpu& gpu) {
    const auto data = gpu.group(Queue::kData, "data"), tensor = gpu.group(Queue::kTensor, "tensor");
    const Buffer memory = gpu.buffer(2);
    const View x = memory.view(DType::kF32, {1}), y = memory.view(DType::kF32, {1}, 4);
    Work pending;
    if (gpu.world.rank() == 0) pending = tensor->all_reduce(x, ReduceOp::kSum, gpu.ctx.stream, "pending");
    ++num_enqueued;
    sleep_until(num_enqueued, 2);
    break_network(true);
    gpu.world.set_position(5, "update");
    EXPECT_THROW(reduce(gpu, *data, y, "parameters"), TransportError);
    gpu.world.check();
  });
  break_network(false);
  for (const Outcome& outcome : outcomes) {
    EXPECT_THAT(outcome.error, AllOf(HasSubstr("all_reduce of 'p"), HasSubstr("f32[1] over group "),
                                     HasSubstr("remote process exited or there was a network error")));
    EXPECT_LT(outcome.seconds, kSoon);
  }
  EXPECT_THAT(outcomes[1].error, HasSubstr("rank 1, step 5 (update): all_reduce of 'parameters'"));
}

TEST(NcclFailure, LaterAndPendingOperationsFailAtOnce) {
  std::atomic<int> num_failed = 0;
  const auto outcomes = on_gpus(2, 0.3, [&](Gpu& gpu) {
    const auto data = gpu.group(Queue::kData, "data"), tensor = gpu.group(Queue::kTensor, "tensor");
    if (gpu.world.rank() == 1) {
      sleep_until(num_failed, 1);
      return;
    }
    const Buffer memory = gpu.buffer(2);
    const View x = memory.view(DType::kF32, {1}), y = memory.view(DType::kF32, {1}, 4);
    Work pending = tensor->all_reduce(x, ReduceOp::kSum, gpu.ctx.stream, "pending");
    EXPECT_THROW(reduce(gpu, *data, y, "waited for"), TransportError);
    const auto start = std::chrono::steady_clock::now();
    pending.wait();
    EXPECT_THROW(gpu.finish(), TransportError);
    EXPECT_THROW(reduce(gpu, *data, y, "later"), TransportError);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
    ++num_failed;
    throw std::runtime_error("seen");
  });
  EXPECT_EQ(outcomes[0].error, "seen");
}

// Freeing device memory waits for what runs on the device.
TEST(NcclFailure, AnExceptionIsNotHeldUpByOperationsOnTheirWay) {
  const auto outcomes = on_gpus(2, 60, [](Gpu& gpu) {
    const auto group = gpu.group(Queue::kPipelineForward, "pipeline");
    if (gpu.world.rank() == 1) gpu.barrier();  // which rank 0 never comes to
    const Buffer memory = gpu.buffer(4);
    Work work = group->recv(memory.view(DType::kF32, {4}), 1, gpu.ctx.stream, "activation");
    throw std::runtime_error("computing went wrong");
  });
  EXPECT_EQ(outcomes[0].error, "computing went wrong");
  EXPECT_LT(outcomes[0].seconds, kSoon);
  EXPECT_THAT(outcomes[1].error, HasSubstr("rank 0 has failed: computing went wrong"));
}

TEST(NcclFailure, ARankThatNeverConnectsIsNotWaitedForLongerThanTheTimeout) {
  std::atomic<int> num_failed = 0;
  const auto outcomes = on_gpus(2, 0.3, [&](Gpu& gpu) {
    if (gpu.world.rank() == 1) {  // takes the id, and goes no further
      std::vector<std::uint8_t> id(128);
      gpu.host.group(all_ranks(gpu.host), Queue::kData, "data")
          ->broadcast(View(id.data(), DType::kU8, {128}), 0, Stream(), "id")
          .wait();
      sleep_until(num_failed, 1);
      return;
    }
    try {
      gpu.group();
    } catch (const TransportError&) {
      ++num_failed;
      throw;
    }
  });
  EXPECT_THAT(outcomes[0].error, AllOf(HasSubstr("NCCL start: group data of 2 ranks"),
                                       HasSubstr("not complete after 0.3 s: a rank is missing")));
}

// Rank 0's operation fails first: it is what rank 0 hears, not that the second group cannot be made.
TEST(NcclFailure, AFailureEndsTheConnectingOfOthers) {
  std::atomic<int> num_failed = 0;
  const auto outcomes = on_gpus(2, 1, [&](Gpu& gpu) {
    const auto data = gpu.group(Queue::kData, "data");
    if (gpu.world.rank() == 1) {  // takes the second id, and goes no further
      std::vector<std::uint8_t> id(128);
      gpu.host.group(all_ranks(gpu.host), Queue::kTensor, "tensor")
          ->broadcast(View(id.data(), DType::kU8, {128}), 0, Stream(), "id")
          .wait();
      sleep_until(num_failed, 1);
      return;
    }
    const Buffer memory = gpu.buffer(1);
    Work work = data->all_reduce(memory.view(DType::kF32, {1}), ReduceOp::kSum, gpu.ctx.stream, "loss");
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    try {
      gpu.group(Queue::kTensor, "tensor");
    } catch (const TransportError&) {
      ++num_failed;
      throw;
    }
  });
  EXPECT_THAT(outcomes[0].error,
              HasSubstr("all_reduce of 'loss' f32[1] over group data: not complete after 1 s"));
}

TEST(NcclFailure, WhatNcclRefusesAtTheStartIsSaid) {
  const auto outcomes = on_gpus(
      2, 60, [](Gpu& gpu) { gpu.group(); }, [](int) { return 0; });
  for (const Outcome& outcome : outcomes)
    EXPECT_THAT(outcome.error, AllOf(HasSubstr("NCCL start: group data of 2 ranks"),
                                     HasSubstr("invalid usage (Duplicate GPU detected)")));
}

}  // namespace
}  // namespace terroir::test
