// Messages between threads of one process: one copy, made by whichever side comes second, from the sender's
// memory to the receiver's. Waiting is passive.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/transport.h"

namespace terroir {

// What all ranks of one threads world share.
class ThreadsHub {
 public:
  explicit ThreadsHub(int size);
  ~ThreadsHub();
  int size() const { return size_; }
  // One rank's end. The hub must outlive it.
  std::unique_ptr<Carrier> carrier(int rank);
  // From now on every transfer of the other ranks fails (the first caller is the one they name).
  void fail(int rank, const char* reason);
  // The rank's body has returned: whoever still waits for a message of its fails.
  void leave(int rank);

  struct Doorbell;
  struct Mailbox;

 private:
  friend class ThreadsCarrier;
  Mailbox& mailbox(int channel, int from, int to);
  void ring_all();

  int size_;
  std::vector<std::unique_ptr<Doorbell>> doorbells_;  // [rank]
  std::vector<std::unique_ptr<Mailbox>> mailboxes_;   // [channel][from][to]
  struct Failure;
  std::unique_ptr<Failure> failure_;
};

}  // namespace terroir
