// The thread that looks at operations on their way, so that a dead or frozen peer ends the job instead of
// hanging it.
#pragma once

#include <condition_variable>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "parallel/nccl/nccl_channel.h"

namespace terroir::nccl {

// An operation on its way.
struct Flight {
  Event inputs_ready, complete;
  Channel* channel = nullptr;
  std::string call, what, group;  // for the message
  ConstView tensor;
  std::int64_t step = 0;
  std::string phase;
};

class Watch {
 public:
  Watch(Device device, int world_rank, double timeout_s);
  ~Watch();

  // A record for an operation, its events reused from complete ones.
  std::shared_ptr<Flight> take();
  // Both events are recorded: watches until it is complete.
  void add(std::shared_ptr<Flight> flight);
  // It could not be enqueued: all operations end, and this throws as check() does.
  [[noreturn]] void lost(const Flight& flight, const std::string& reason);
  // Nobody waits for it any more: unless it is complete, all operations end, and check() throws.
  void give_up(const Flight& flight) noexcept;
  void set_position(std::int64_t step, const char* phase);
  // A channel that is ended with the others. It must be removed before it is destroyed. Throws, without it,
  // what check() throws.
  void add_channel(Channel* channel);
  void remove_channel(Channel* channel);
  // Throws what was found, and goes on throwing it.
  void check();

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    std::shared_ptr<Flight> flight;
    Clock::time_point deadline{};  // from when its inputs were ready
  };
  void watch();
  bool look(Entry& entry);
  void fail(const Flight& flight, const std::string& reason);

  Device device_;
  int world_rank_;
  double timeout_s_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::list<Entry> flights_;
  std::vector<std::shared_ptr<Flight>> spare_;
  std::vector<Channel*> channels_;
  std::exception_ptr failure_;
  std::int64_t step_ = 0;
  std::string phase_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace terroir::nccl
