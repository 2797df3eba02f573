// The executor on real communicators, with a stage whose result is known: y = a x + b on stage s, so that
// activations and gradients of every micro-batch can be computed by hand.
#include <gtest/gtest.h>

#include "parallel/schedule.h"
#include "parallel/world.h"

namespace terroir::test {
namespace {

constexpr std::int64_t kWidth = 37;

// Stage s multiplies by (s + 2) and adds s; the loss is the sum of the last stage's output times (micro-batch
// + 1).
class AffineStage : public PipelineStage {
 public:
  AffineStage(int rank, int num_ranks, int num_slots)
      : factor_(static_cast<float>(rank + 2)),
        offset_(static_cast<float>(rank)),
        first_(rank == 0),
        last_(rank == num_ranks - 1),
        slots_(static_cast<std::size_t>(num_slots)) {}

  void forward(const Action& action) override {
    Slot& slot = slot_of(action);
    if (first_) std::fill(slot.in.begin(), slot.in.end(), input(action.micro_batch));
    for (std::size_t i = 0; i < slot.in.size(); ++i) slot.out[i] = factor_ * slot.in[i] + offset_;
    if (last_) outputs.push_back(slot.out.front());
  }
  void backward(const Action& action) override {
    backward_input(action);
    backward_weight(action);
  }
  void backward_input(const Action& action) override {
    Slot& slot = slot_of(action);
    if (last_)
      std::fill(slot.gradient.begin(), slot.gradient.end(), static_cast<float>(action.micro_batch + 1));
    for (std::size_t i = 0; i < slot.in.size(); ++i) slot.gradient_out[i] = factor_ * slot.gradient[i];
  }
  void backward_weight(const Action& action) override {
    const Slot& slot = slot_of(action);
    for (std::size_t i = 0; i < slot.in.size(); ++i) weight_gradient += slot.gradient[i] * slot.in[i];
  }
  void reduce_grads(const Action&) override { ++num_reduced; }
  View activation_in(const Action& action) override { return view(slot_of(action).in); }
  View activation_out(const Action& action) override { return view(slot_of(action).out); }
  View gradient_in(const Action& action) override { return view(slot_of(action).gradient); }
  View gradient_out(const Action& action) override { return view(slot_of(action).gradient_out); }

  static float input(int micro_batch) { return static_cast<float>(micro_batch) + 0.5f; }
  std::vector<float> outputs;  // of the last stage, one per micro-batch
  double weight_gradient = 0;
  int num_reduced = 0;

 private:
  struct Slot {
    std::vector<float> in = std::vector<float>(kWidth), out = in, gradient = in, gradient_out = in;
  };
  Slot& slot_of(const Action& action) { return slots_[static_cast<std::size_t>(action.slot)]; }
  static View view(std::vector<float>& values) { return View(values.data(), DType::kF32, {kWidth}); }
  float factor_, offset_;
  bool first_, last_;
  std::vector<Slot> slots_;
};

// What stage `rank` of `ranks` must have seen: its inputs and gradients, micro-batch by micro-batch.
struct Expected {
  std::vector<float> outputs;
  double weight_gradient = 0;
};
Expected expected_of(int rank, int ranks, int micro_batches) {
  Expected expected;
  for (int m = 0; m < micro_batches; ++m) {
    float x = AffineStage::input(m), at_rank = 0;
    for (int s = 0; s < ranks; ++s) {
      if (s == rank) at_rank = x;
      x = static_cast<float>(s + 2) * x + static_cast<float>(s);
    }
    float gradient = static_cast<float>(m + 1);
    for (int s = ranks - 1; s > rank; --s) gradient *= static_cast<float>(s + 2);
    if (rank == ranks - 1) expected.outputs.push_back(x);
    for (std::int64_t i = 0; i < kWidth; ++i) expected.weight_gradient += gradient * at_rank;
  }
  return expected;
}

void run_and_compare(const Schedule& schedule) {
  ASSERT_TRUE(validate(schedule).empty());
  run_threads(schedule.num_ranks, {.timeout_s = 30}, [&](World& world) {
    std::vector<int> ranks;
    for (int rank = 0; rank < world.size(); ++rank) ranks.push_back(rank);
    const auto forward = world.group(ranks, Queue::kPipelineForward, "pipeline");
    const auto backward = world.group(ranks, Queue::kPipelineBackward, "pipeline");
    AffineStage stage(world.rank(), world.size(), schedule.num_slots[world.rank()]);
    run_schedule(schedule, stage, *forward, *backward, Stream());
    const Expected expected = expected_of(world.rank(), world.size(), schedule.num_micro_batches);
    EXPECT_EQ(stage.outputs, expected.outputs);
    EXPECT_EQ(stage.weight_gradient, expected.weight_gradient);
    EXPECT_EQ(stage.num_reduced, 1);
  });
}

TEST(RunSchedule, GivesTheSerialResult) {
  for (const char* name : {"gpipe", "1f1b"})
    for (const int ranks : {1, 2, 3, 4})
      for (const int micro_batches : {1, 2, 3, 7}) {
        SCOPED_TRACE(fmt::format("{} on {} ranks, {} micro-batches", name, ranks, micro_batches));
        run_and_compare(make_schedule(name, ranks, micro_batches));
      }
}

// Splits every backward into its input and weight half, the weight half after the gradient has been sent.
Schedule with_split_backward(Schedule schedule) {
  for (std::vector<Action>& list : schedule.actions) {
    std::vector<Action> split;
    for (std::size_t i = 0; i < list.size(); ++i) {
      Action action = list[i];
      if (action.kind != ActionKind::kBackward) {
        split.push_back(action);
        continue;
      }
      action.kind = ActionKind::kBackwardInput;
      split.push_back(action);
      if (i + 1 < list.size() && list[i + 1].kind == ActionKind::kSendGradient) split.push_back(list[++i]);
      action.kind = ActionKind::kBackwardWeight;
      split.push_back(action);
    }
    list = split;
  }
  return schedule;
}

TEST(RunSchedule, RunsASplitBackward) { run_and_compare(with_split_backward(one_f_one_b_schedule(3, 5))); }

TEST(RunSchedule, RefusesGroupsOfAnotherSize) {
  const auto world = local_world();
  const auto group = world->group({0}, Queue::kPipelineForward, "pipeline");
  AffineStage stage(0, 2, 2);
  EXPECT_THROW(run_schedule(gpipe_schedule(2, 2), stage, *group, *group, Stream()), ContractError);
}

TEST(RunSchedule, AnExceptionInAStageEndsTheOtherRanks) {
  class ThrowingStage : public AffineStage {
   public:
    using AffineStage::AffineStage;
    void backward(const Action&) override { throw std::runtime_error("stage 1 broke"); }
  };
  const Schedule schedule = one_f_one_b_schedule(3, 6);
  const auto run = [&](World& world) {
    const auto forward = world.group({0, 1, 2}, Queue::kPipelineForward, "pipeline");
    const auto backward = world.group({0, 1, 2}, Queue::kPipelineBackward, "pipeline");
    AffineStage stage(world.rank(), 3, 3);
    ThrowingStage broken(1, 3, 3);
    PipelineStage& mine = world.rank() == 1 ? static_cast<PipelineStage&>(broken) : stage;
    run_schedule(schedule, mine, *forward, *backward, Stream());
  };
  try {
    run_threads(3, {.timeout_s = 30}, run);
    FAIL() << "nothing was thrown";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "stage 1 broke");
  }
}

}  // namespace
}  // namespace terroir::test
