// One ncclComm_t, the stream that its operations run on, and the error texts.
#pragma once

#include <nccl.h>

#include <atomic>
#include <chrono>
#include <string>

#include "kernels/tensor/device.h"
#include "parallel/communicator.h"

namespace terroir::nccl {

// Throws TransportError("<call>", NCCL's words) unless `result` is ncclSuccess or, on non-blocking
// communicators, ncclInProgress.
void check(ncclResult_t result, const char* call);

class Channel {
 public:
  // Connects the `size` members that were given the same id. Returns when this rank is connected. Throws
  // TransportError after `timeout_s`. Collective.
  Channel(const ncclUniqueId& id, int size, int rank, Device device, double timeout_s,
          const std::string& name);
  // Gives up what is still running.
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  const Stream& stream() const { return stream_; }
  ncclComm_t communicator() const { return communicator_; }
  // What has gone wrong since the last operation was enqueued: ncclSuccess, ncclInProgress or an error.
  ncclResult_t state() const;
  // The host waits until NCCL has taken what was enqueued (a group of non-blocking calls).
  void settle(const char* call);
  // Ends running operations. Callable from any thread, once.
  void abort() noexcept;

 private:
  using Clock = std::chrono::steady_clock;
  OwnedStream stream_;
  ncclComm_t communicator_ = nullptr;
  double timeout_s_;
  std::atomic<bool> aborted_ = false;
};

}  // namespace terroir::nccl
