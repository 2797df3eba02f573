#include "trainer/model/step_times.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace terroir {
namespace {

// On a CPU work is done when it is enqueued.
void work(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

class Step : public testing::Test {
 protected:
  StepTimes times_{Stream()};
};

TEST_F(Step, TimeGoesToThePartThatWasEntered) {
  const auto begin = std::chrono::steady_clock::now();
  times_.begin(StepPart::kUpdate);
  for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
    times_.enter(StepPart::kForward);
    work(5);
    times_.enter(StepPart::kBackward);
    work(10);
  }
  times_.enter(StepPart::kUpdate);
  work(1);
  times_.end();
  const double all = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const auto seconds = times_.seconds();
  ASSERT_EQ(seconds.size(), static_cast<std::size_t>(kNumStepParts));
  EXPECT_GE(seconds.at("forward"), 0.010);
  EXPECT_GE(seconds.at("backward"), 0.020);
  EXPECT_GE(seconds.at("update"), 0.001);
  EXPECT_EQ(seconds.at("loss"), 0);
  EXPECT_EQ(seconds.at("communication"), 0);
  double sum = 0;
  for (const auto& [part, s] : seconds) sum += s;
  EXPECT_LE(sum, all);
  EXPECT_GE(sum, 0.031);
}

TEST_F(Step, ForgetsTheStepBefore) {
  times_.begin(StepPart::kForward);
  work(5);
  times_.end();
  times_.begin(StepPart::kBackward);
  work(1);
  times_.end();
  const auto seconds = times_.seconds();
  EXPECT_EQ(seconds.at("forward"), 0);
  EXPECT_GE(seconds.at("backward"), 0.001);
}

// An evaluation runs the same passes.
TEST_F(Step, PassesOutsideOfItAreNotTimed) {
  times_.enter(StepPart::kForward);
  times_.begin(StepPart::kUpdate);
  times_.end();
  const auto before = times_.seconds();
  times_.enter(StepPart::kForward);
  work(1);
  times_.enter(StepPart::kLoss);
  EXPECT_EQ(times_.seconds(), before);
  EXPECT_EQ(before.at("forward"), 0);
}

}  // namespace
}  // namespace terroir
