#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <optional>
#include <tuple>

#include "parallel/schedule.h"

namespace terroir {
namespace {

constexpr const char* kKindNames[] = {"forward",         "backward",        "backward_input",
                                      "backward_weight", "recv_activation", "send_activation",
                                      "recv_gradient",   "send_gradient",   "reduce_grads"};

std::string to_string(const Action& action) {
  return fmt::format("{} of micro-batch {} (chunk {}, slot {})", kKindNames[static_cast<int>(action.kind)],
                     action.micro_batch, action.chunk, action.slot);
}

bool is_last_backward(ActionKind kind) {
  return kind == ActionKind::kBackward || kind == ActionKind::kBackwardWeight;
}

int last_stage(const Schedule& schedule) { return schedule.num_ranks * schedule.num_chunks - 1; }

// --- Numbers in range: the other checks index by them.

void check_ranges(const Schedule& schedule, std::vector<std::string>& problems) {
  if (std::ssize(schedule.actions) != schedule.num_ranks ||
      std::ssize(schedule.num_slots) != schedule.num_ranks) {
    problems.push_back(fmt::format("{} lists and {} slot counts for {} ranks", schedule.actions.size(),
                                   schedule.num_slots.size(), schedule.num_ranks));
    return;
  }
  for (int rank = 0; rank < schedule.num_ranks; ++rank)
    for (const Action& action : schedule.actions[rank])
      if (action.chunk < 0 || action.chunk >= schedule.num_chunks || action.micro_batch < 0 ||
          action.micro_batch >= schedule.num_micro_batches || action.slot < 0 ||
          action.slot >= schedule.num_slots[rank])
        problems.push_back(fmt::format("rank {}: {} is out of range: {} chunks, {} micro-batches, {} slots",
                                       rank, to_string(action), schedule.num_chunks,
                                       schedule.num_micro_batches, schedule.num_slots[rank]));
}

// --- Completeness and order within one rank.

// Where each kind of action stands for one (chunk, micro-batch) of one rank.
class Passage {
 public:
  void add(ActionKind kind, int index) { at_[static_cast<std::size_t>(kind)].push_back(index); }
  std::size_t count(ActionKind kind) const { return at_[static_cast<std::size_t>(kind)].size(); }
  bool in_order(ActionKind first, ActionKind second) const {
    return count(first) == 0 || count(second) == 0 || position(first) < position(second);
  }

 private:
  int position(ActionKind kind) const { return at_[static_cast<std::size_t>(kind)].front(); }
  std::array<std::vector<int>, std::size(kKindNames)> at_;
};

void check_passage(const Passage& passage, int stage, int last, const std::string& where,
                   std::vector<std::string>& problems) {
  using enum ActionKind;
  const auto expect = [&](ActionKind kind, std::size_t times) {
    if (passage.count(kind) != times)
      problems.push_back(fmt::format("{}: {} happens {} times instead of {}", where,
                                     kKindNames[static_cast<int>(kind)], passage.count(kind), times));
  };
  const std::size_t split = passage.count(kBackward) == 0 ? 1 : 0;  // backward in two actions
  expect(kForward, 1);
  expect(kBackward, 1 - split);
  expect(kBackwardInput, split);
  expect(kBackwardWeight, split);
  expect(kRecvActivation, stage > 0);
  expect(kSendActivation, stage < last);
  expect(kRecvGradient, stage < last);
  expect(kSendGradient, stage > 0);
  const ActionKind backward = split ? kBackwardInput : kBackward;
  constexpr auto kName = [](ActionKind kind) { return kKindNames[static_cast<int>(kind)]; };
  for (const auto& [first, second] : {std::pair{kRecvActivation, kForward},
                                      {kForward, kSendActivation},
                                      {kForward, backward},
                                      {kRecvGradient, backward},
                                      {backward, kSendGradient},
                                      {kBackwardInput, kBackwardWeight}})
    if (!passage.in_order(first, second))
      problems.push_back(fmt::format("{}: {} comes after {}", where, kName(first), kName(second)));
}

void check_passages(const Schedule& schedule, int rank, std::vector<std::string>& problems) {
  const std::vector<Action>& actions = schedule.actions[rank];
  std::map<std::pair<int, int>, Passage> passages;
  for (int i = 0; i < std::ssize(actions); ++i)
    if (actions[i].kind != ActionKind::kReduceGrads)
      passages[{actions[i].chunk, actions[i].micro_batch}].add(actions[i].kind, i);
  for (int chunk = 0; chunk < schedule.num_chunks; ++chunk)
    for (int micro_batch = 0; micro_batch < schedule.num_micro_batches; ++micro_batch)
      check_passage(passages[{chunk, micro_batch}], schedule.stage_of(rank, chunk), last_stage(schedule),
                    fmt::format("rank {}, chunk {}, micro-batch {}", rank, chunk, micro_batch), problems);
}

void check_reduce_grads(const Schedule& schedule, int rank, std::vector<std::string>& problems) {
  for (int chunk = 0; chunk < schedule.num_chunks; ++chunk) {
    int times = 0, backwards_after = 0;
    for (const Action& action : schedule.actions[rank]) {
      if (action.chunk != chunk) continue;
      times += action.kind == ActionKind::kReduceGrads;
      backwards_after += times > 0 && is_last_backward(action.kind);
    }
    if (times != 1)
      problems.push_back(
          fmt::format("rank {}, chunk {}: reduce_grads happens {} times instead of 1", rank, chunk, times));
    if (backwards_after > 0)
      problems.push_back(fmt::format("rank {}, chunk {}: reduce_grads comes before {} weight gradients", rank,
                                     chunk, backwards_after));
  }
}

// A slot belongs to one micro-batch from its first action to its last.
void check_slots(const Schedule& schedule, int rank, std::vector<std::string>& problems) {
  const std::vector<Action>& actions = schedule.actions[rank];
  std::map<std::pair<int, int>, int> last_use;  // (chunk, micro-batch) -> index
  for (int i = 0; i < std::ssize(actions); ++i)
    if (actions[i].kind != ActionKind::kReduceGrads) last_use[{actions[i].chunk, actions[i].micro_batch}] = i;

  std::map<std::pair<int, int>, int> owners;  // (chunk, slot) -> micro-batch
  std::map<std::pair<int, int>, int> slots;   // (chunk, micro-batch) -> slot
  for (int i = 0; i < std::ssize(actions); ++i) {
    const Action& action = actions[i];
    if (action.kind == ActionKind::kReduceGrads) continue;
    const auto [slot, first_use] = slots.try_emplace({action.chunk, action.micro_batch}, action.slot);
    if (slot->second != action.slot)
      problems.push_back(
          fmt::format("rank {}: {}, which is in slot {}", rank, to_string(action), slot->second));
    const auto [owner, was_free] = owners.try_emplace({action.chunk, action.slot}, action.micro_batch);
    if (owner->second != action.micro_batch) {
      problems.push_back(fmt::format("rank {}: {} while micro-batch {} still needs the slot", rank,
                                     to_string(action), owner->second));
      owner->second = action.micro_batch;
    }
    if (last_use[{action.chunk, action.micro_batch}] == i) owners.erase({action.chunk, action.slot});
  }
}

// --- Deadlock: all ranks at once.

enum class Lane { kForward, kBackward };

// One end of a message. Both ends have the same (lane, lower stage, micro-batch).
struct Transfer {
  Action action;
  int index;  // of the action in its rank's list
  int peer;   // rank
  int link;   // the lower of the two stages
  bool sending;
};

std::optional<Lane> lane_of(ActionKind kind) {
  if (kind == ActionKind::kRecvActivation || kind == ActionKind::kSendActivation) return Lane::kForward;
  if (kind == ActionKind::kRecvGradient || kind == ActionKind::kSendGradient) return Lane::kBackward;
  return std::nullopt;
}

class Simulation {
 public:
  explicit Simulation(const Schedule& schedule)
      : schedule_(schedule), ranks_(static_cast<std::size_t>(schedule.num_ranks)) {}

  // Empty: every list runs to its end.
  std::vector<std::string> run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (int rank = 0; rank < schedule_.num_ranks; ++rank)
        while (step(rank)) moved = true;
      for (int rank = 0; rank < schedule_.num_ranks; ++rank)
        for (const Lane lane : {Lane::kForward, Lane::kBackward}) moved = exchange(rank, lane) || moved;
    }
    return stuck_ranks();
  }

 private:
  struct Rank {
    int next = 0;  // index of the next action
    std::array<std::deque<Transfer>, 2> queues;
    std::map<std::tuple<ActionKind, int, int>, bool> complete;  // transfers, by (kind, chunk, micro-batch)
    std::map<std::pair<int, int>, std::vector<Action>> slot_sends;  // not yet complete, by (chunk, slot)
  };

  Transfer make_transfer(int rank, const Action& action, int index) const {
    const bool sending =
        action.kind == ActionKind::kSendActivation || action.kind == ActionKind::kSendGradient;
    const bool to_next =
        action.kind == ActionKind::kSendActivation || action.kind == ActionKind::kRecvGradient;
    const int stage = schedule_.stage_of(rank, action.chunk);
    const int ranks = schedule_.num_ranks;
    return {action, index, (rank + (to_next ? 1 : ranks - 1)) % ranks, to_next ? stage : stage - 1, sending};
  }

  static bool received(const Rank& state, ActionKind kind, const Action& action) {
    return state.complete.contains({kind, action.chunk, action.micro_batch});
  }

  // Whether the rank may go past `action` now.
  bool ready(int rank, const Action& action) const {
    using enum ActionKind;
    const Rank& state = ranks_[rank];
    const int stage = schedule_.stage_of(rank, action.chunk);
    const auto sends = state.slot_sends.find({action.chunk, action.slot});
    const bool slot_quiet = sends == state.slot_sends.end() || sends->second.empty();
    switch (action.kind) {
      case kRecvActivation:
        return slot_quiet;
      case kForward:
        return stage == 0 ? slot_quiet : received(state, kRecvActivation, action);
      case kBackward:
      case kBackwardInput:
        return stage == last_stage(schedule_) || received(state, kRecvGradient, action);
      default:
        return true;
    }
  }

  bool step(int rank) {
    Rank& state = ranks_[rank];
    const std::vector<Action>& actions = schedule_.actions[rank];
    if (state.next == std::ssize(actions) || !ready(rank, actions[state.next])) return false;
    const Action& action = actions[state.next];
    if (const std::optional<Lane> lane = lane_of(action.kind)) {
      const Transfer transfer = make_transfer(rank, action, state.next);
      state.queues[static_cast<std::size_t>(*lane)].push_back(transfer);
      if (transfer.sending) state.slot_sends[{action.chunk, action.slot}].push_back(action);
    }
    ++state.next;
    return true;
  }

  // Completes the heads of this rank's queue and its peer's when they are two ends of one message.
  bool exchange(int rank, Lane lane) {
    std::deque<Transfer>& mine = ranks_[rank].queues[static_cast<std::size_t>(lane)];
    if (mine.empty() || !mine.front().sending) return false;
    const int peer = mine.front().peer;
    std::deque<Transfer>& theirs = ranks_[peer].queues[static_cast<std::size_t>(lane)];
    if (theirs.empty() || theirs.front().sending || theirs.front().peer != rank ||
        theirs.front().link != mine.front().link ||
        theirs.front().action.micro_batch != mine.front().action.micro_batch)
      return false;
    complete(ranks_[rank], mine);
    complete(ranks_[peer], theirs);
    return true;
  }

  static void complete(Rank& state, std::deque<Transfer>& queue) {
    const Action action = queue.front().action;
    state.complete[{action.kind, action.chunk, action.micro_batch}] = true;
    std::erase(state.slot_sends[{action.chunk, action.slot}], action);
    queue.pop_front();
  }

  std::vector<std::string> stuck_ranks() const {
    std::vector<std::string> problems;
    for (int rank = 0; rank < schedule_.num_ranks; ++rank) {
      const Rank& state = ranks_[rank];
      const std::vector<Action>& actions = schedule_.actions[rank];
      std::string waits;
      if (state.next < std::ssize(actions))
        waits = fmt::format("stops before {}", to_string(actions[state.next]));
      for (const std::deque<Transfer>& queue : state.queues)
        if (!queue.empty())
          waits += fmt::format("{}waits for rank {} in {}", waits.empty() ? "" : ", ", queue.front().peer,
                               to_string(queue.front().action));
      if (!waits.empty()) problems.push_back(fmt::format("deadlock: rank {} {}", rank, waits));
    }
    return problems;
  }

  const Schedule& schedule_;
  std::vector<Rank> ranks_;
};

}  // namespace

std::vector<std::string> validate(const Schedule& schedule) {
  std::vector<std::string> problems;
  check_ranges(schedule, problems);
  if (!problems.empty()) return problems;
  for (int rank = 0; rank < schedule.num_ranks; ++rank) {
    check_passages(schedule, rank, problems);
    check_reduce_grads(schedule, rank, problems);
    check_slots(schedule, rank, problems);
  }
  for (std::string& problem : Simulation(schedule).run()) problems.push_back(std::move(problem));
  return problems;
}

}  // namespace terroir
