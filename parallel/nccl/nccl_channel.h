// One ncclComm_t, the stream that its operations run on, and the error texts.
#pragma once

#include <nccl.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <string>

#include "kernels/tensor/device.h"
#include "parallel/communicator.h"

namespace terroir::nccl {

// Throws TransportError("<call>", NCCL's words) unless `result` is ncclSuccess or, on non-blocking
// communicators, ncclInProgress.
void check(ncclResult_t result, const char* call);

class Channel {
 public:
  // Begins to connect the `size` members that were given the same id. Collective.
  Channel(const ncclUniqueId& id, int size, int rank, Device device, double timeout_s);
  // Returns when this rank is connected, or after abort(). Throws TransportError after `timeout_s`, with the
  // group's name.
  void connect(int size, const std::string& name);
  // Gives up what is still running.
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  const Stream& stream() const { return stream_; }
  // Enqueues what `calls` calls, as one operation of the stream: when this returns, it is in the stream. Does
  // nothing after abort().
  using Calls = std::function<void(ncclComm_t, cudaStream_t)>;
  void enqueue(const char* call, const Calls& calls);
  // ncclSuccess, ncclInProgress or what has gone wrong. Callable from any thread.
  ncclResult_t state() const;
  // Ends running operations, with whatever is then in their outputs. Callable from any thread.
  void abort() noexcept;

 private:
  using Clock = std::chrono::steady_clock;
  void settle(const char* call);

  OwnedStream stream_;
  ncclComm_t communicator_ = nullptr;
  double timeout_s_;
  mutable std::mutex mutex_;  // of a call to NCCL: abort() frees what the others use
  bool aborted_ = false;
};

}  // namespace terroir::nccl
