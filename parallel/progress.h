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

#include "parallel/operation.h"

namespace terroir {

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
  void fail(const std::exception_ptr& error) noexcept;
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
  void fail_locked(const std::exception_ptr& error) noexcept;
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
