#include "parallel/schedule.h"

#include <algorithm>

namespace terroir {
namespace {

// Appends one micro-batch's pass through this rank, with the transfers around it.
class RankSchedule {
 public:
  RankSchedule(int rank, int num_ranks, int num_slots)
      : rank_(rank), num_ranks_(num_ranks), num_slots_(num_slots) {}

  void forward(int micro_batch) {
    if (rank_ > 0) add(ActionKind::kRecvActivation, micro_batch);
    add(ActionKind::kForward, micro_batch);
    if (rank_ < num_ranks_ - 1) add(ActionKind::kSendActivation, micro_batch);
  }
  void backward(int micro_batch) {
    if (rank_ < num_ranks_ - 1) add(ActionKind::kRecvGradient, micro_batch);
    add(ActionKind::kBackward, micro_batch);
    if (rank_ > 0) add(ActionKind::kSendGradient, micro_batch);
  }
  std::vector<Action> finish() {
    actions_.push_back({.kind = ActionKind::kReduceGrads});
    return std::move(actions_);
  }

 private:
  void add(ActionKind kind, int micro_batch) {
    actions_.push_back(
        {.kind = kind, .chunk = 0, .micro_batch = micro_batch, .slot = micro_batch % num_slots_});
  }
  int rank_, num_ranks_, num_slots_;
  std::vector<Action> actions_;
};

Schedule empty_schedule(std::string name, int num_ranks, int num_micro_batches) {
  TERROIR_CHECK(num_ranks >= 1 && num_micro_batches >= 1, "{}: {} ranks and {} micro-batches", name,
                num_ranks, num_micro_batches);
  Schedule schedule;
  schedule.name = std::move(name);
  schedule.num_ranks = num_ranks;
  schedule.num_micro_batches = num_micro_batches;
  return schedule;
}

}  // namespace

// Backward passes run in the order of the forward passes, as in 1F1B, so that gradients add up in the same
// order and both schedules give the same bits.
Schedule gpipe_schedule(int num_ranks, int num_micro_batches) {
  Schedule schedule = empty_schedule("gpipe", num_ranks, num_micro_batches);
  for (int rank = 0; rank < num_ranks; ++rank) {
    RankSchedule list(rank, num_ranks, num_micro_batches);
    for (int micro_batch = 0; micro_batch < num_micro_batches; ++micro_batch) list.forward(micro_batch);
    for (int micro_batch = 0; micro_batch < num_micro_batches; ++micro_batch) list.backward(micro_batch);
    schedule.actions.push_back(list.finish());
    schedule.num_slots.push_back(num_micro_batches);
  }
  return schedule;
}

Schedule one_f_one_b_schedule(int num_ranks, int num_micro_batches) {
  Schedule schedule = empty_schedule("1f1b", num_ranks, num_micro_batches);
  for (int rank = 0; rank < num_ranks; ++rank) {
    // Forwards that run ahead of the first backward: one per later stage.
    const int warm_up = std::min(num_ranks - 1 - rank, num_micro_batches);
    const int num_slots = std::min(num_ranks - rank, num_micro_batches);
    RankSchedule list(rank, num_ranks, num_slots);
    for (int micro_batch = 0; micro_batch < warm_up; ++micro_batch) list.forward(micro_batch);
    for (int micro_batch = 0; micro_batch < num_micro_batches; ++micro_batch) {
      if (micro_batch + warm_up < num_micro_batches) list.forward(micro_batch + warm_up);
      list.backward(micro_batch);
    }
    schedule.actions.push_back(list.finish());
    schedule.num_slots.push_back(num_slots);
  }
  return schedule;
}

Schedule make_schedule(const std::string& name, int num_ranks, int num_micro_batches) {
  if (name == "gpipe") return gpipe_schedule(num_ranks, num_micro_batches);
  if (name == "1f1b") return one_f_one_b_schedule(num_ranks, num_micro_batches);
  const bool planned = name == "interleaved" || name == "zero_bubble";
  throw UserError(ExitCode::kUsage, Place{.key = "parallel.schedule"},
                  planned ? fmt::format("'{}' is planned but not built yet; use 1f1b or gpipe", name)
                          : fmt::format("there is no schedule '{}'; use 1f1b or gpipe", name));
}

}  // namespace terroir
