// One rank's operations on their way: their order, their deadlines, and who drives them.
//
// Operations are state machines (Operation). Whoever holds the lock drives them: a caller inside wait() if
// there is one, which saves two thread switches per collective, otherwise a patrol thread that looks every
// few hundred microseconds. So at most one thread is inside the carrier at any time, and communication
// advances while the caller computes.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
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

class Progress {
 public:
  // `carrier` must outlive this.
  Progress(Carrier& carrier, const WorldOptions& options);
  // Cancels what is still on its way.
  ~Progress();

  Work submit(std::shared_ptr<Operation> operation);
  void wait(Operation& operation);
  // The last Work of an operation is gone: cancels everything unless it is done.
  void abandon(Operation& operation) noexcept;
  // Every pending and later operation throws `error`. Only the first call counts.
  void fail(std::exception_ptr error) noexcept;
  bool failed();
  void set_position(std::int64_t step, const char* phase);
  // Runs `action` while no other thread is inside the carrier; false when that takes longer than `limit`.
  bool with_carrier(std::chrono::milliseconds limit, const std::function<void()>& action) noexcept;

 private:
  friend class Operation;
  struct Lane {  // one queue
    std::deque<std::shared_ptr<Operation>> waiting;
    int active_collectives = 0;
    int active_point_to_point = 0;
  };

  void patrol();
  bool poll();
  bool advance_active();
  void start_ready(Lane& lane);
  bool advance(Operation& operation);
  bool all_transfers_done(Operation& operation);
  void finish(Operation& operation, std::exception_ptr error);
  void fail_locked(std::exception_ptr error) noexcept;
  Clock::time_point next_deadline() const;
  std::string describe(const Operation& operation) const;
  std::exception_ptr deadline_error(const Operation& operation) const;
  std::exception_ptr with_context(const Operation& operation) const;
  Lane& lane_of(const Operation& operation);
  Buffer take_scratch(std::int64_t bytes);

  Carrier& carrier_;
  const WorldOptions options_;

  std::mutex mutex_;  // guards everything below
  std::array<Lane, kNumChannels> lanes_;
  std::vector<std::shared_ptr<Operation>> active_;
  std::vector<Buffer> free_scratch_;
  std::exception_ptr failure_;
  std::int64_t step_ = -1;
  const char* phase_ = "start";
  int helpers_ = 0;  // callers inside wait()
  bool stopping_ = false;
  bool patrol_asleep_ = false;
  std::condition_variable patrol_wakes_;
  std::thread patrol_;
};

}  // namespace terroir
