// What a host transport must offer: bytes from rank to rank. Collectives, their order and their deadlines are
// written once over it (collectives.h, progress.h), so all transports give the same bits.
#pragma once

#include <chrono>
#include <cstdint>

#include "parallel/communicator.h"

namespace terroir {

using Clock = std::chrono::steady_clock;

inline constexpr int kNumChannels = 5;  // one per Queue
// The largest tag every MPI library accepts (MPI-3.1, 8.1.2).
inline constexpr int kMaxTag = 32767;

// This rank fails only because another one did: run_threads() reports the other's error instead.
class PeerFailure : public TransportError {
 public:
  using TransportError::TransportError;
};

// One rank's end of the transport. Called by one thread at a time, except wake().
class Carrier {
 public:
  struct Transfer {};  // a message on its way; each carrier derives its own

  virtual ~Carrier() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Start to move bytes; the memory belongs to the transport until test() returned true or cancel() returned.
  // Messages of one (channel, sender, receiver, tag) arrive in the order they were sent. A send may wait for
  // its receive.
  virtual Transfer* send(int channel, int peer, int tag, const void* data, std::int64_t bytes) = 0;
  virtual Transfer* receive(int channel, int peer, int tag, void* data, std::int64_t bytes) = 0;
  // True once complete; the transfer is then gone. Throws ContractError when the two sides' sizes differ,
  // PeerFailure or SystemError when it can never complete; cancel() must follow.
  virtual bool test(Transfer* transfer) = 0;
  // Gives a transfer up after a failure. On return its memory is not touched any more.
  virtual void cancel(Transfer* transfer) noexcept = 0;

  // Passes the time until something may have happened, at most until `until`. `seen` is events() from before
  // the transfers were last tested; `round` counts the rounds since something moved.
  virtual std::uint64_t events() const = 0;
  virtual void idle(std::uint64_t seen, int round, Clock::time_point until) = 0;
  // Ends a thread's idle(); callable from any thread.
  virtual void wake() noexcept = 0;
  // How often to look when nobody waits for a result.
  virtual std::chrono::microseconds patrol_interval() const = 0;
  // Tells the other ranks, where the transport can, that this one has failed.
  virtual void announce_failure(const char* reason) noexcept = 0;
};

}  // namespace terroir
