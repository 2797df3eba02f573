// Pipeline schedules as plain data: what each rank does, in order. A generator makes the lists, validate()
// proves them, run_schedule() executes any valid list.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace terroir {

enum class ActionKind : std::uint8_t {
  kForward,
  kBackward,       // input and weight gradients in one go
  kBackwardInput,  // split backward, for zero-bubble schedules
  kBackwardWeight,
  kRecvActivation,  // from the stage before, into the slot's activation_in
  kSendActivation,
  kRecvGradient,  // from the stage after, into the slot's gradient_in
  kSendGradient,
  kReduceGrads,  // flush the chunk's gradient buckets
};

struct Action {
  ActionKind kind;
  int chunk = 0;  // which of this rank's pieces of the model
  int micro_batch = 0;
  int slot = 0;  // which activation buffers; free again after the micro-batch's last backward action
  bool operator==(const Action&) const = default;
};

struct Schedule {
  std::string name;    // "gpipe", "1f1b"
  int num_ranks = 1;   // pipeline ranks
  int num_chunks = 1;  // chunks per rank
  int num_micro_batches = 1;
  std::vector<std::vector<Action>> actions;  // [pipeline rank]
  std::vector<int> num_slots;                // [pipeline rank]: slots used
  // Global stage of (rank, chunk); stages are numbered in the order of the forward pass.
  int stage_of(int rank, int chunk) const { return chunk * num_ranks + rank; }
};

// All forwards, then all backwards; num_micro_batches slots.
Schedule gpipe_schedule(int num_ranks, int num_micro_batches);
// One forward, one backward (Narayanan et al. 2021, "PipeDream-Flush"): at most num_ranks - rank slots on a
// rank.
Schedule one_f_one_b_schedule(int num_ranks, int num_micro_batches);
// By configuration name; throws UserError for unknown names, and by name for schedules that are planned.
Schedule make_schedule(const std::string& name, int num_ranks, int num_micro_batches);

// All that is wrong with a schedule (empty: nothing): completeness (every micro-batch through every stage,
// forward and backward, once), sends and receives that match, slot reuse only after the last backward action,
// reduce_grads after the last weight gradient of its chunk, and no deadlock: all ranks are simulated with
// rendezvous (unbuffered) sends on separate forward and backward queues.
std::vector<std::string> validate(const Schedule& schedule);

// What one rank's part of the model offers the executor. Views are of the slot's buffers: sends and receives
// move exactly them. An empty view: this stage has no such neighbour.
class PipelineStage {
 public:
  virtual ~PipelineStage() = default;
  virtual void forward(const Action& action) = 0;
  virtual void backward(const Action& action) = 0;
  virtual void backward_input(const Action& action) = 0;
  virtual void backward_weight(const Action& action) = 0;
  virtual void reduce_grads(const Action& action) = 0;
  virtual View activation_in(const Action& action) = 0;
  virtual View activation_out(const Action& action) = 0;
  virtual View gradient_in(const Action& action) = 0;   // of activation_out, from the stage after
  virtual View gradient_out(const Action& action) = 0;  // of activation_in, for the stage before
};

// Runs this rank's list. `forward` and `backward` are the pipeline group on its two queues. Receives are
// posted as early as slots allow; a slot's sends are complete before the slot is written again; all work is
// complete on return.
void run_schedule(const Schedule& schedule, PipelineStage& stage, Communicator& forward,
                  Communicator& backward, const Stream& stream);

}  // namespace terroir
