#include "parallel/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

namespace terroir::test {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kNames[] = {"gpipe", "1f1b"};

TEST(Schedule, EveryGeneratedScheduleIsValid) {
  for (const char* name : kNames)
    for (int ranks = 1; ranks <= 8; ++ranks)
      for (int micro_batches = 1; micro_batches <= 12; ++micro_batches)
        EXPECT_THAT(validate(make_schedule(name, ranks, micro_batches)), IsEmpty())
            << name << " on " << ranks << " ranks with " << micro_batches << " micro-batches";
}

// Micro-batches whose forward has run and whose backward has not, at most.
int most_in_flight(const std::vector<Action>& actions) {
  int now = 0, most = 0;
  for (const Action& action : actions) {
    if (action.kind == ActionKind::kForward) most = std::max(most, ++now);
    if (action.kind == ActionKind::kBackward) --now;
  }
  return most;
}

TEST(Schedule, OneFOneBKeepsAtMostOneMicroBatchPerLaterStageInFlight) {
  for (int ranks = 1; ranks <= 8; ++ranks)
    for (int micro_batches = 1; micro_batches <= 12; ++micro_batches) {
      const Schedule schedule = one_f_one_b_schedule(ranks, micro_batches);
      for (int rank = 0; rank < ranks; ++rank) {
        EXPECT_EQ(most_in_flight(schedule.actions[rank]), std::min(ranks - rank, micro_batches));
        EXPECT_EQ(schedule.num_slots[rank], std::min(ranks - rank, micro_batches));
      }
    }
}

TEST(Schedule, BothRunTheBackwardPassesInTheSameOrder) {
  for (const char* name : kNames) {
    int expected = 0;
    const Schedule schedule = make_schedule(name, 3, 5);
    for (const Action& action : schedule.actions[1])
      if (action.kind == ActionKind::kBackward) {
        EXPECT_EQ(action.micro_batch, expected++) << name;
      }
    EXPECT_EQ(expected, 5);
  }
}

TEST(Schedule, UnknownAndPlannedNamesAreRefused) {
  const auto message_of = [](const char* name) -> std::string {
    try {
      make_schedule(name, 2, 2);
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(message_of("interleaved"),
              HasSubstr("parallel.schedule: 'interleaved' is planned but not built yet"));
  EXPECT_THAT(message_of("zero_bubble"), HasSubstr("planned"));
  EXPECT_THAT(message_of("2f2b"), HasSubstr("there is no schedule '2f2b'; use 1f1b or gpipe"));
}

// --- Broken schedules. Three ranks, four micro-batches; rank 1 has neighbours on both sides.

using Actions = std::vector<Action>;
Actions::iterator find(Actions& actions, ActionKind kind, int micro_batch) {
  return std::find_if(actions.begin(), actions.end(), [&](const Action& action) {
    return action.kind == kind && action.micro_batch == micro_batch;
  });
}

std::vector<std::string> problems_after(const std::function<void(Schedule&)>& damage) {
  Schedule schedule = one_f_one_b_schedule(3, 4);
  damage(schedule);
  return validate(schedule);
}

TEST(BrokenSchedule, ADroppedSendIsMissingAndLeavesItsReceiverStuck) {
  const auto problems = problems_after([](Schedule& schedule) {
    Actions& list = schedule.actions[1];
    list.erase(find(list, ActionKind::kSendActivation, 2));
  });
  EXPECT_THAT(problems,
              Contains(HasSubstr("rank 1, chunk 0, micro-batch 2: send_activation happens 0 times")));
  EXPECT_THAT(problems, Contains(HasSubstr("deadlock: rank 2")));
}

TEST(BrokenSchedule, EveryDroppedOrRepeatedActionIsFound) {
  const Schedule whole = one_f_one_b_schedule(3, 4);
  for (int rank = 0; rank < 3; ++rank)
    for (std::size_t i = 0; i < whole.actions[rank].size(); ++i) {
      Schedule dropped = whole, repeated = whole;
      dropped.actions[rank].erase(dropped.actions[rank].begin() + static_cast<std::ptrdiff_t>(i));
      repeated.actions[rank].push_back(whole.actions[rank][i]);
      EXPECT_FALSE(validate(dropped).empty()) << "rank " << rank << " without action " << i;
      EXPECT_FALSE(validate(repeated).empty()) << "rank " << rank << " with action " << i << " twice";
    }
}

TEST(BrokenSchedule, SendsInAnotherOrderThanReceivesAreADeadlock) {
  // Gpipe has a slot for every micro-batch: only the order of the messages is wrong.
  Schedule schedule = gpipe_schedule(2, 2);
  Actions& list = schedule.actions[0];
  std::swap(*find(list, ActionKind::kSendActivation, 0), *find(list, ActionKind::kSendActivation, 1));
  std::swap(*find(list, ActionKind::kForward, 0), *find(list, ActionKind::kForward, 1));
  const auto problems = validate(schedule);
  EXPECT_THAT(problems, Contains(HasSubstr("deadlock: rank 0")));
  EXPECT_THAT(problems, Contains(HasSubstr("waits for rank 0 in recv_activation of micro-batch 0")));
}

TEST(BrokenSchedule, BackwardBeforeItsGradientOrForward) {
  EXPECT_THAT(problems_after([](Schedule& schedule) {
                Actions& list = schedule.actions[1];
                std::swap(*find(list, ActionKind::kRecvGradient, 1), *find(list, ActionKind::kBackward, 1));
              }),
              Contains(HasSubstr("rank 1, chunk 0, micro-batch 1: recv_gradient comes after backward")));
  EXPECT_THAT(problems_after([](Schedule& schedule) {
                Actions& list = schedule.actions[2];
                std::swap(*find(list, ActionKind::kForward, 1), *find(list, ActionKind::kBackward, 1));
              }),
              Contains(HasSubstr("rank 2, chunk 0, micro-batch 1: forward comes after backward")));
}

TEST(BrokenSchedule, ASlotReusedTooEarly) {
  const auto problems = problems_after([](Schedule& schedule) {
    for (Action& action : schedule.actions[0]) action.slot = action.micro_batch % 2;  // needs three
  });
  EXPECT_THAT(problems,
              Contains(HasSubstr("rank 0: forward of micro-batch 2 (chunk 0, slot 0) while micro-batch 0 "
                                 "still needs the slot")));
}

TEST(BrokenSchedule, ASlotThatChangesDuringAMicroBatch) {
  EXPECT_THAT(problems_after(
                  [](Schedule& schedule) { find(schedule.actions[1], ActionKind::kBackward, 0)->slot = 1; }),
              Contains(HasSubstr("rank 1: backward of micro-batch 0 (chunk 0, slot 1), which is in slot 0")));
}

TEST(BrokenSchedule, GradientsReducedTooEarly) {
  EXPECT_THAT(problems_after([](Schedule& schedule) {
                Actions& list = schedule.actions[0];
                std::iter_swap(list.end() - 1, find(list, ActionKind::kBackward, 3));
              }),
              Contains(HasSubstr("rank 0, chunk 0: reduce_grads comes before 1 weight gradients")));
}

TEST(BrokenSchedule, NumbersOutOfRange) {
  EXPECT_THAT(problems_after([](Schedule& schedule) { schedule.actions[1][0].slot = 2; }),
              Contains(HasSubstr("is out of range: 1 chunks, 4 micro-batches, 2 slots")));
  EXPECT_THAT(problems_after([](Schedule& schedule) { schedule.actions.pop_back(); }),
              Contains(HasSubstr("2 lists and 3 slot counts for 3 ranks")));
}

}  // namespace
}  // namespace terroir::test
