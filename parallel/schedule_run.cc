#include <algorithm>
#include <map>

#include "parallel/schedule.h"

namespace terroir {
namespace {

// Runs one rank's list. A wait happens no earlier than where validate()'s simulation waits, and a receive is
// posted no later, so a schedule that is valid there cannot deadlock here.
class Execution {
 public:
  Execution(const Schedule& schedule, PipelineStage& stage, Communicator& forward, Communicator& backward,
            const Stream& stream)
      : actions_(schedule.actions[static_cast<std::size_t>(forward.rank())]),
        stage_(stage),
        forward_(forward),
        backward_(backward),
        stream_(stream) {
    for (std::size_t i = 0; i < actions_.size(); ++i)
      if (actions_[i].kind != ActionKind::kReduceGrads)
        last_use_[{actions_[i].chunk, actions_[i].micro_batch}] = i;
  }

  void run() {
    for (std::size_t i = 0; i < actions_.size(); ++i) {
      const Action& action = actions_[i];
      run_action(i);
      if (action.kind != ActionKind::kReduceGrads && last_use_[{action.chunk, action.micro_batch}] == i)
        slot_of(action).micro_batch = -1;
      post_early_receives(i + 1);
    }
    for (auto& [key, slot] : slots_) wait_for_sends(slot);
  }

 private:
  // What is under way in one slot.
  struct Slot {
    int micro_batch = -1;  // that owns the slot; -1: free
    bool forward_done = false;
    Work activation, gradient;  // receives
    std::vector<Work> sends;
  };
  // The next receive of one queue that is not posted yet. They are posted in list order.
  struct Cursor {
    ActionKind kind;
    std::size_t next = 0;
  };

  int previous() const { return (forward_.rank() + forward_.size() - 1) % forward_.size(); }
  int next() const { return (forward_.rank() + 1) % forward_.size(); }
  Slot& slot_of(const Action& action) { return slots_[{action.chunk, action.slot}]; }

  static void wait_for_sends(Slot& slot) {
    for (Work& work : slot.sends) work.wait();
    slot.sends.clear();
  }
  static void occupy(Slot& slot, const Action& action) {
    wait_for_sends(slot);
    slot.micro_batch = action.micro_batch;
    slot.forward_done = false;
  }

  void run_action(std::size_t index) {
    const Action& action = actions_[index];
    Slot& slot = slot_of(action);
    switch (action.kind) {
      case ActionKind::kRecvActivation:
        if (activations_.next <= index) post_next(activations_);
        return;
      case ActionKind::kForward:
        if (slot.micro_batch != action.micro_batch) occupy(slot, action);  // the first stage receives nothing
        slot.activation.wait();
        stage_.forward(action);
        slot.forward_done = true;
        return;
      case ActionKind::kSendActivation:
        slot.sends.push_back(forward_.send(stage_.activation_out(action), next(), stream_, "activation"));
        return;
      case ActionKind::kRecvGradient:
        if (gradients_.next <= index) post_next(gradients_);
        return;
      case ActionKind::kBackward:
        slot.gradient.wait();
        return stage_.backward(action);
      case ActionKind::kBackwardInput:
        slot.gradient.wait();
        return stage_.backward_input(action);
      case ActionKind::kBackwardWeight:
        return stage_.backward_weight(action);
      case ActionKind::kSendGradient:
        slot.sends.push_back(backward_.send(stage_.gradient_out(action), previous(), stream_, "gradient"));
        return;
      case ActionKind::kReduceGrads:
        return stage_.reduce_grads(action);
    }
  }

  bool find_next(Cursor& cursor) const {
    while (cursor.next < actions_.size() && actions_[cursor.next].kind != cursor.kind) ++cursor.next;
    return cursor.next < actions_.size();
  }

  // Posts the receives whose memory is free, without waiting for anything. Those before `position` are posted
  // already.
  void post_early_receives(std::size_t position) {
    activations_.next = std::max(activations_.next, position);
    gradients_.next = std::max(gradients_.next, position);
    while (find_next(activations_)) {
      const Slot& slot = slot_of(actions_[activations_.next]);
      const bool quiet =
          std::all_of(slot.sends.begin(), slot.sends.end(), [](const Work& work) { return work.done(); });
      if (slot.micro_batch != -1 || !quiet) break;
      post_next(activations_);
    }
    while (find_next(gradients_)) {
      const Action& action = actions_[gradients_.next];
      const Slot& slot = slot_of(action);
      if (slot.micro_batch != action.micro_batch || !slot.forward_done) break;
      post_next(gradients_);
    }
  }

  void post_next(Cursor& cursor) {
    find_next(cursor);
    const Action& action = actions_[cursor.next++];
    Slot& slot = slot_of(action);
    if (action.kind == ActionKind::kRecvActivation) {
      occupy(slot, action);
      slot.activation = forward_.recv(stage_.activation_in(action), previous(), stream_, "activation");
    } else {
      slot.gradient = backward_.recv(stage_.gradient_in(action), next(), stream_, "gradient");
    }
  }

  const std::vector<Action>& actions_;
  PipelineStage& stage_;
  Communicator& forward_;
  Communicator& backward_;
  const Stream& stream_;
  std::map<std::pair<int, int>, std::size_t> last_use_;  // (chunk, micro-batch) -> index of its last action
  std::map<std::pair<int, int>, Slot> slots_;            // (chunk, slot)
  Cursor activations_{ActionKind::kRecvActivation};
  Cursor gradients_{ActionKind::kRecvGradient};
};

}  // namespace

void run_schedule(const Schedule& schedule, PipelineStage& stage, Communicator& forward,
                  Communicator& backward, const Stream& stream) {
  TERROIR_CHECK(forward.size() == schedule.num_ranks && backward.size() == schedule.num_ranks &&
                    forward.rank() == backward.rank(),
                "a schedule for {} ranks on pipeline groups of {} and {}", schedule.num_ranks, forward.size(),
                backward.size());
  Execution(schedule, stage, forward, backward, stream).run();
}

}  // namespace terroir
