// What the other ranks of a threads world see when one fails, is late or does something else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include "tests/parallel/rank_data.h"
#include "tests/parallel/worlds.h"

namespace terroir::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const Stream kHost;

struct Outcome {
  std::string error = "no error";
  double seconds = 0;
};

// Runs `body` on three ranks and returns what each rank's body threw (the exception goes on to run_threads).
std::array<Outcome, 3> outcomes_of(double timeout_s, const std::function<void(World&)>& body) {
  std::array<Outcome, 3> outcomes;
  try {
    run_threads(3, {.timeout_s = timeout_s}, [&](World& world) {
      const auto start = std::chrono::steady_clock::now();
      Outcome& outcome = outcomes[world.rank()];
      try {
        body(world);
      } catch (const std::exception& error) {
        outcome.error = error.what();
        outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        throw;
      }
    });
  } catch (const std::exception&) {
  }
  return outcomes;
}

void reduce_once(World& world, std::string_view what = "loss") {
  float value = 1;
  world.group(all_ranks(world), Queue::kData, "data")
      ->all_reduce(View(&value, DType::kF32, {1}), ReduceOp::kSum, kHost, what)
      .wait();
}

TEST(Failure, ARankThatNeverArrivesIsNamedWithEverythingElse) {
  std::atomic<bool> release = false;
  try {
    run_threads(2, {.timeout_s = 0.3}, [&](World& world) {
      world.set_position(12, "backward");
      if (world.rank() == 1) {  // frozen until rank 0 has given up
        while (!release) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return;
      }
      try {
        reduce_once(world, "gradients of layer 3");
      } catch (...) {
        release = true;
        throw;
      }
    });
    FAIL() << "nothing was thrown";
  } catch (const TransportError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kTransport);
    EXPECT_STREQ(
        error.what(),
        "rank 0, step 12 (backward): all_reduce of 'gradients of layer 3' f32[1] over group data (ranks 0 "
        "1): "
        "not complete after 0.3 s, still waiting for rank 1: dead, frozen, cut off, or in another operation");
  }
}

TEST(Failure, AThrowingRankEndsTheOthersLongBeforeTheDeadline) {
  const auto outcomes = outcomes_of(60, [](World& world) {
    if (world.rank() == 2) throw std::runtime_error("out of cheese");
    reduce_once(world);
  });
  EXPECT_THAT(outcomes[0].error,
              AllOf(HasSubstr("all_reduce of 'loss'"), HasSubstr("rank 2 has failed: out of cheese")));
  EXPECT_LT(outcomes[0].seconds, 5);
  EXPECT_LT(outcomes[1].seconds, 5);
}

TEST(Failure, TheFirstCauseIsReportedNotItsConsequences) {
  for (int bad = 0; bad < 3; ++bad) {
    const auto run = [&] {
      run_threads(3, {.timeout_s = 60}, [&](World& world) {
        if (world.rank() == bad) throw UserError(ExitCode::kData, Place{.file = "x.h5"}, "is damaged");
        reduce_once(world);
      });
    };
    EXPECT_THROW(run(), UserError) << "rank " << bad;
  }
}

TEST(Failure, ARankThatLeavesEarlyIsNotWaitedFor) {
  const auto outcomes = outcomes_of(60, [](World& world) {
    if (world.rank() != 1) reduce_once(world);
  });
  EXPECT_THAT(outcomes[0].error + outcomes[2].error, HasSubstr("rank 1: has already left"));
}

TEST(Failure, LaterAndPendingOperationsFailAtOnce) {
  const auto outcomes = outcomes_of(0.3, [](World& world) {
    if (world.rank() != 0) {
      std::this_thread::sleep_for(std::chrono::seconds(1));
      return;
    }
    const auto data = world.group(all_ranks(world), Queue::kData, "data");
    const auto tensor = world.group(all_ranks(world), Queue::kTensor, "tensor");
    std::vector<float> first(10), second(10);
    Work pending = tensor->recv(view_of(first), 1, kHost, "pending");
    Work waited = data->recv(view_of(second), 1, kHost, "waited for");
    EXPECT_THROW(waited.wait(), TransportError);
    EXPECT_TRUE(pending.done());
    EXPECT_THROW(pending.wait(), TransportError);
    const auto start = std::chrono::steady_clock::now();
    EXPECT_THROW(data->all_reduce(view_of(first), ReduceOp::kSum, kHost, "later").wait(), TransportError);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(200));
    throw std::runtime_error("seen");
  });
  EXPECT_EQ(outcomes[0].error, "seen");
}

TEST(Failure, RanksInDifferentOperationsNameTheirOwn) {
  const auto outcomes = outcomes_of(0.3, [](World& world) {
    const auto group = world.group(all_ranks(world), Queue::kTensor, "tensor");
    std::vector<float> values(6);
    if (world.rank() == 0)
      group->broadcast(view_of(values), 1, kHost, "weights").wait();
    else
      group->all_reduce(view_of(values), ReduceOp::kSum, kHost, "activations").wait();
  });
  EXPECT_THAT(
      outcomes[0].error + outcomes[1].error + outcomes[2].error,
      AllOf(HasSubstr("in another operation"),
            testing::AnyOf(HasSubstr("broadcast of 'weights'"), HasSubstr("all_reduce of 'activations'"))));
}

TEST(Failure, SizesThatDifferAreABugNotATransportError) {
  try {
    run_threads(2, {.timeout_s = 60}, [](World& world) {
      const auto group = world.group({0, 1}, Queue::kPipelineForward, "pipeline");
      std::vector<float> values(static_cast<std::size_t>(4 + world.rank()));
      if (world.rank() == 0)
        group->send(view_of(values), 1, kHost, "activation").wait();
      else
        group->recv(view_of(values), 0, kHost, "activation").wait();
    });
    FAIL() << "nothing was thrown";
  } catch (const ContractError& error) {
    EXPECT_THAT(error.what(), HasSubstr("sends 16 bytes, but rank 1 expects 20"));
  }
}

TEST(Failure, AnAbandonedReceiveLetsGoOfItsMemory) {
  // Rank 0's exception frees the memory of its receive. Rank 1 must not write there; it hears of the failure.
  const auto outcomes = outcomes_of(60, [](World& world) {
    const auto group = world.group(all_ranks(world), Queue::kPipelineForward, "pipeline");
    if (world.rank() == 0) {
      std::vector<float> values(1000);
      Work receive = group->recv(view_of(values), 1, kHost, "activation");
      throw std::runtime_error("computing went wrong");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    std::vector<float> values(1000);
    if (world.rank() == 1) group->send(view_of(values), 0, kHost, "activation").wait();
  });
  EXPECT_EQ(outcomes[0].error, "computing went wrong");
  EXPECT_THAT(outcomes[1].error, HasSubstr("rank 0 has failed"));
}

TEST(Failure, AbortEndsTheOtherRanks) {
  const auto outcomes = outcomes_of(60, [](World& world) {
    if (world.rank() == 0)
      world.abort(6);
    else
      reduce_once(world);
  });
  EXPECT_THAT(outcomes[1].error, HasSubstr("rank 0 ended the job with exit code 6"));
}

TEST(Failure, WaitingThreadsDoNotBurnTheProcessor) {
  const auto cpu_seconds = [] {
    timespec time{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double before = cpu_seconds();
  run_threads(4, {.timeout_s = 60}, [](World& world) {
    if (world.rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(500));
    reduce_once(world);
  });
  EXPECT_LT(cpu_seconds() - before, 0.15);  // three ranks waited half a second each
}

}  // namespace
}  // namespace terroir::test
