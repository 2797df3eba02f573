// One collective, send or receive of a host transport, as a state machine.
#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/tensor/buffer.h"
#include "parallel/transport.h"
#include "parallel/world.h"

namespace terroir {

class Progress;

// Members of one communicator.
struct Group {
  std::string name;
  std::vector<int> ranks;  // world ranks, ascending
  int rank = 0;            // this rank's index in `ranks`
  Queue queue = Queue::kControl;
  int size() const { return static_cast<int>(ranks.size()); }
};

// What an error message says about an operation, and what makes its messages distinct.
struct OperationLabel {
  const char* call = "";  // "all_reduce"
  std::string_view what;  // the tensor's name
  ConstView view;         // its shape
  bool point_to_point = false;
  std::uint32_t identity =
      0;  // equal on both ends; hashed into the tags, so that differing order never matches
};

// One collective, send or receive, as seen by this rank. A stage posts transfers; when all of them are
// complete the next stage runs.
class Operation {
 public:
  Operation(std::shared_ptr<const Group> group, OperationLabel label);
  virtual ~Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  // Completes an operation that needs no other rank (a group of one).
  void run_alone();

 protected:
  // Called at the start and whenever all transfers posted so far are complete. Posts the next ones by send()
  // and receive(). False: there is no further stage, the operation is complete.
  virtual bool next_stage() = 0;

  const Group& group() const { return *group_; }
  // Peers are group ranks; `phase` is the same number on both ends. Nothing is posted for zero bytes: both
  // ends know the sizes.
  void send(int peer, int phase, const void* data, std::int64_t bytes);
  void receive(int peer, int phase, void* data, std::int64_t bytes);
  // Memory for this operation, kept and reused by later ones.
  void* scratch(std::int64_t bytes);
  const MessageLimits& limits() const;

 private:
  friend class Progress;
  struct Outstanding {
    Carrier::Transfer* transfer;
    int peer;
  };
  int tag(int phase) const;

  std::shared_ptr<const Group> group_;
  OperationLabel label_;
  Progress* progress_ = nullptr;
  std::vector<Outstanding> outstanding_;
  Buffer scratch_;
  std::int64_t step_ = 0;
  const char* phase_ = "";
  Clock::time_point deadline_{};
  std::exception_ptr error_;        // set before done_
  std::atomic<bool> done_ = false;  // complete or failed
};

}  // namespace terroir
