#include "parallel/nccl/watch.h"

#include <fmt/core.h>

#include <algorithm>

namespace terroir::nccl {
namespace {

constexpr std::chrono::milliseconds kLookEvery{20};

}  // namespace

Watch::Watch(Device device, int world_rank, double timeout_s)
    : device_(device), world_rank_(world_rank), timeout_s_(timeout_s), thread_([this] { watch(); }) {}

Watch::~Watch() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

std::shared_ptr<Flight> Watch::take() {
  check();
  const std::lock_guard lock(mutex_);
  // A record is free when neither this thread nor a Work holds it.
  const auto free =
      std::find_if(spare_.begin(), spare_.end(), [](const auto& f) { return f.use_count() == 1; });
  std::shared_ptr<Flight> flight;
  if (free == spare_.end()) {
    flight = std::make_shared<Flight>();
    flight->inputs_ready = Event(device_);
    flight->complete = Event(device_);
  } else {
    flight = std::move(*free);
    spare_.erase(free);
  }
  flight->step = step_;
  flight->phase = phase_;
  return flight;
}

void Watch::add(std::shared_ptr<Flight> flight) {
  const std::lock_guard lock(mutex_);
  flights_.push_back({std::move(flight)});
  wake_.notify_all();
}

void Watch::lost(const Flight& flight, const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (!failure_) fail(flight, reason);
  std::rethrow_exception(failure_);
}

void Watch::give_up(const Flight& flight) noexcept {
  const std::lock_guard lock(mutex_);
  try {
    if (failure_ || flight.complete.done()) return;
    fail(flight, "given up, as this rank failed before it was complete");
  } catch (const std::exception&) {  // the device is lost, and says so to whoever asks it
  }
}

void Watch::set_position(std::int64_t step, const char* phase) {
  const std::lock_guard lock(mutex_);
  step_ = step;
  phase_ = phase;
}

void Watch::add_channel(Channel* channel) {
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
  channels_.push_back(channel);
}

void Watch::remove_channel(Channel* channel) {
  const std::lock_guard lock(mutex_);
  std::erase(channels_, channel);
  flights_.remove_if([&](const Entry& entry) { return entry.flight->channel == channel; });
}

void Watch::check() {
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
}

void Watch::watch() {
  device_runtime(device_).make_current(device_.index);
  std::unique_lock lock(mutex_);
  while (!ending_) {
    if (flights_.empty() || failure_) {
      wake_.wait(lock);
      continue;
    }
    for (auto entry = flights_.begin(); entry != flights_.end() && !failure_;) {
      if (!look(*entry)) {
        ++entry;
        continue;
      }
      spare_.push_back(std::move(entry->flight));
      entry = flights_.erase(entry);
    }
    wake_.wait_for(lock, kLookEvery);
  }
}

// True when the operation is complete.
bool Watch::look(Entry& entry) {
  const Flight& flight = *entry.flight;
  try {
    if (flight.complete.done()) return true;
    const ncclResult_t state = flight.channel->state();
    if (state != ncclSuccess && state != ncclInProgress) {
      fail(flight, ncclGetErrorString(state));
      return false;
    }
    if (entry.deadline == Clock::time_point{}) {
      if (flight.inputs_ready.done())
        entry.deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                            std::chrono::duration<double>(timeout_s_));
    } else if (Clock::now() > entry.deadline) {
      fail(flight, fmt::format("not complete after {:g} s: a rank died, froze or is cut off", timeout_s_));
    }
  } catch (const Error& error) {
    fail(flight, error.what());
  }
  return false;
}

void Watch::fail(const Flight& flight, const std::string& reason) {
  failure_ = std::make_exception_ptr(TransportError(
      "NCCL",
      fmt::format("rank {}, step {} ({}): {} of '{}' {} over group {}: {}", world_rank_, flight.step,
                  flight.phase, flight.call, flight.what, flight.tensor.describe(), flight.group, reason)));
  for (Channel* channel : channels_) channel->abort();
}

}  // namespace terroir::nccl
