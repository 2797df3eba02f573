#include "parallel/progress.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>

namespace terroir {
namespace {

// The patrol sleeps for good after so many rounds in which it had nothing to do, and must then be woken: a
// system call per operation, which steady training is spared.
constexpr int kQuietRounds = 16;

// What callers hold: when the last copy goes while the operation is not done, its memory must be let go of.
class Ticket : public PendingOperation {
 public:
  Ticket(Progress& progress, std::shared_ptr<Operation> operation, const std::atomic<bool>& done)
      : progress_(progress), operation_(std::move(operation)), done_(done) {}
  ~Ticket() override {
    if (!done()) progress_.abandon(*operation_);
  }
  void wait() override { progress_.wait(*operation_); }
  bool done() const override { return done_.load(std::memory_order_acquire); }

 private:
  Progress& progress_;
  std::shared_ptr<Operation> operation_;
  const std::atomic<bool>& done_;
};

}  // namespace

Progress::Progress(Carrier& carrier, const WorldOptions& options)
    : carrier_(carrier), options_(options), patrol_([this] { patrol(); }) {}

Progress::~Progress() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (!active_.empty())
      fail_locked(
          std::make_exception_ptr(ContractError("the world ended before " + describe(*active_.front()))));
  }
  patrol_wakes_.notify_one();
  patrol_.join();
}

Work Progress::submit(std::shared_ptr<Operation> operation) {
  auto ticket = std::make_shared<Ticket>(*this, operation, operation->done_);
  const std::lock_guard lock(mutex_);
  operation->progress_ = this;
  operation->step_ = step_;
  operation->phase_ = phase_;
  if (failure_) {
    finish(*operation, failure_);
  } else {
    Lane& lane = lane_of(*operation);
    lane.waiting.push_back(std::move(operation));
    start_ready(lane);
    if (patrol_asleep_ && !active_.empty()) patrol_wakes_.notify_one();
  }
  return Work(std::move(ticket));
}

void Progress::wait(Operation& operation) {
  std::unique_lock lock(mutex_);
  ++helpers_;
  for (int round = 0; !operation.done_;) {
    const std::uint64_t seen = carrier_.events();
    if (poll()) {
      round = 0;
      continue;
    }
    const Clock::time_point until = next_deadline();
    lock.unlock();
    carrier_.idle(seen, round++, until);
    lock.lock();
  }
  --helpers_;
  if (patrol_asleep_ && !active_.empty()) patrol_wakes_.notify_one();
  if (operation.error_) std::rethrow_exception(operation.error_);
}

void Progress::abandon(Operation& operation) noexcept {
  const std::lock_guard lock(mutex_);
  if (operation.done_) return;
  fail_locked(
      std::make_exception_ptr(ContractError(describe(operation) + ": given up without waiting for it")));
}

void Progress::fail(const std::exception_ptr& error) noexcept {
  const std::lock_guard lock(mutex_);
  fail_locked(error);
}

bool Progress::failed() {
  const std::lock_guard lock(mutex_);
  return failure_ != nullptr;
}

void Progress::set_position(std::int64_t step, const char* phase) {
  const std::lock_guard lock(mutex_);
  step_ = step;
  phase_ = phase;
}

bool Progress::with_carrier(std::chrono::milliseconds limit, const std::function<void()>& action) noexcept {
  const Clock::time_point until = Clock::now() + limit;
  std::unique_lock lock(mutex_, std::try_to_lock);
  while (!lock.owns_lock()) {
    if (Clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    lock.try_lock();
  }
  action();
  return true;
}

void Progress::patrol() {
  std::unique_lock lock(mutex_);
  int quiet_rounds = 0;
  while (!stopping_) {
    if (helpers_ > 0 || active_.empty()) {
      ++quiet_rounds;
    } else {
      quiet_rounds = 0;
      while (poll()) {
      }
    }
    if (quiet_rounds < kQuietRounds) {
      patrol_wakes_.wait_for(lock, carrier_.patrol_interval());
    } else {
      patrol_asleep_ = true;
      patrol_wakes_.wait(lock);
      patrol_asleep_ = false;
      quiet_rounds = 0;
    }
  }
}

// True when something moved.
bool Progress::poll() {
  if (failure_) return false;
  const bool moved = advance_active();
  if (moved)
    for (Lane& lane : lanes_) start_ready(lane);
  return moved;
}

bool Progress::advance_active() {
  const Clock::time_point now = Clock::now();
  bool moved = false;
  for (std::size_t i = 0; i < active_.size();) {
    Operation& operation = *active_[i];
    const std::size_t before = operation.outstanding_.size();
    try {
      if (advance(operation)) {
        const std::shared_ptr<Operation> keep_alive = std::move(active_[i]);
        active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(i));
        finish(operation, nullptr);
        moved = true;
        continue;
      }
    } catch (...) {
      fail_locked(with_context(operation));
      return true;
    }
    if (now > operation.deadline_) {
      fail_locked(deadline_error(operation));
      return true;
    }
    moved = moved || operation.outstanding_.size() != before;
    ++i;
  }
  return moved;
}

void Progress::start_ready(Lane& lane) {
  while (!lane.waiting.empty()) {
    const bool point_to_point = lane.waiting.front()->label_.point_to_point;
    if (lane.active_collectives > 0 || (!point_to_point && lane.active_point_to_point > 0)) return;
    const std::shared_ptr<Operation> operation = std::move(lane.waiting.front());
    lane.waiting.pop_front();
    ++(point_to_point ? lane.active_point_to_point : lane.active_collectives);
    operation->deadline_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                              std::chrono::duration<double>(options_.timeout_s));
    active_.push_back(operation);
    try {
      if (!advance(*operation)) continue;
    } catch (...) {
      fail_locked(with_context(*operation));
      return;
    }
    active_.pop_back();
    finish(*operation, nullptr);
  }
}

// True when the operation is complete.
bool Progress::advance(Operation& operation) {
  while (all_transfers_done(operation))
    if (!operation.next_stage()) return true;
  return false;
}

bool Progress::all_transfers_done(Operation& operation) {
  std::vector<Operation::Outstanding>& outstanding = operation.outstanding_;
  for (std::size_t i = 0; i < outstanding.size();) {
    if (carrier_.test(outstanding[i].transfer)) {
      outstanding[i] = outstanding.back();
      outstanding.pop_back();
    } else {
      ++i;
    }
  }
  return outstanding.empty();
}

void Progress::finish(Operation& operation, std::exception_ptr error) {
  if (!error) {
    Lane& lane = lane_of(operation);
    --(operation.label_.point_to_point ? lane.active_point_to_point : lane.active_collectives);
  }
  if (operation.scratch_.bytes() > 0) free_scratch_.push_back(std::move(operation.scratch_));
  operation.error_ = std::move(error);
  operation.done_.store(true, std::memory_order_release);
  carrier_.wake();
}

void Progress::fail_locked(const std::exception_ptr& error) noexcept {
  if (failure_) return;
  failure_ = error;
  for (const std::shared_ptr<Operation>& operation : active_) {
    for (const Operation::Outstanding& outstanding : operation->outstanding_)
      carrier_.cancel(outstanding.transfer);
    operation->outstanding_.clear();
    finish(*operation, error);
  }
  active_.clear();
  for (Lane& lane : lanes_) {
    for (const std::shared_ptr<Operation>& operation : lane.waiting) finish(*operation, error);
    lane = Lane{};
  }
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& exception) {
    carrier_.announce_failure(exception.what());
  }
}

Clock::time_point Progress::next_deadline() const {
  Clock::time_point next = Clock::now() + std::chrono::seconds(1);
  for (const std::shared_ptr<Operation>& operation : active_) next = std::min(next, operation->deadline_);
  return next;
}

std::string Progress::describe(const Operation& operation) const {
  const Group& group = *operation.group_;
  return fmt::format("rank {}, step {} ({}): {} of '{}' {} over group {} (ranks {})", carrier_.rank(),
                     operation.step_, operation.phase_, operation.label_.call, operation.label_.what,
                     operation.label_.view.describe(), group.name, fmt::join(group.ranks, " "));
}

std::exception_ptr Progress::deadline_error(const Operation& operation) const {
  std::vector<int> awaited;
  for (const Operation::Outstanding& outstanding : operation.outstanding_)
    awaited.push_back(operation.group_->ranks[outstanding.peer]);
  std::sort(awaited.begin(), awaited.end());
  awaited.erase(std::unique(awaited.begin(), awaited.end()), awaited.end());
  return std::make_exception_ptr(TransportError(
      describe(operation),
      fmt::format("not complete after {:g} s, still waiting for {} {}: dead, frozen, cut off, or in another "
                  "operation",
                  options_.timeout_s, awaited.size() == 1 ? "rank" : "ranks", fmt::join(awaited, " "))));
}

// REQUIRES: an exception is being handled.
std::exception_ptr Progress::with_context(const Operation& operation) const {
  try {
    throw;
  } catch (const PeerFailure& error) {
    return std::make_exception_ptr(PeerFailure(describe(operation), error.what()));
  } catch (const ContractError& error) {
    return std::make_exception_ptr(ContractError(fmt::format("{}: {}", describe(operation), error.what())));
  } catch (const std::exception& error) {
    return std::make_exception_ptr(TransportError(describe(operation), error.what()));
  }
}

Progress::Lane& Progress::lane_of(const Operation& operation) {
  return lanes_[static_cast<std::size_t>(operation.group_->queue)];
}

// The smallest kept block that is large enough, or a new one.
Buffer Progress::take_scratch(std::int64_t bytes) {
  auto best = free_scratch_.end();
  for (auto it = free_scratch_.begin(); it != free_scratch_.end(); ++it)
    if (it->bytes() >= bytes && (best == free_scratch_.end() || it->bytes() < best->bytes())) best = it;
  if (best == free_scratch_.end())
    return Buffer(static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(bytes))));
  Buffer buffer = std::move(*best);
  free_scratch_.erase(best);
  return buffer;
}

}  // namespace terroir
