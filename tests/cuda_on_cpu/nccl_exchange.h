// What the members of an NCCL communicator do together, done once all of their streams have come to it.
#pragma once

#include <nccl.h>

#include <memory>
#include <vector>

#include "tests/cuda_on_cpu/runtime.h"

namespace cuda_on_cpu::nccl {

enum class Kind { kAllReduce, kAllGather, kReduceScatter, kBroadcast, kReduce, kSend, kReceive };

// One member's call.
struct Call {
  Kind kind;
  const void* in;
  void* out;
  std::size_t count;  // as NCCL counts: of the smaller buffer
  ncclDataType_t type;
  ncclRedOp_t op = ncclSum;
  int peer = 0;  // root, receiver or sender
};

std::size_t element_bytes(ncclDataType_t type);

// A member's part of an exchange: its call, the point of its stream that comes before, whether it gave up.
struct Side {
  Call call;
  std::shared_ptr<Mark> arrived;
  std::shared_ptr<const bool> aborted;
};

// One collective of a group, or one message (side 0 sends). The caller holds runtime_mutex.
class Exchange {
 public:
  // The first: of this pair, or of the communicator's collectives.
  Exchange(int num_sides, bool message, bool first)
      : sides_(static_cast<std::size_t>(num_sides)), message_(message), first_(first) {}
  bool is_message() const { return message_; }
  bool is_first() const { return first_; }
  void join(int index, Side side);
  bool complete() const { return num_joined_ == sides_.size(); }  // all members have called
  // Whether every member's stream is here: runs them as far as they must for it. Never when one gave up.
  bool ready() const;
  // Moves and adds up the data, at the first call. Sums are taken in the order of ranks, bf16 in f32; fmax()
  // as on a GPU drops a NaN. Throws std::runtime_error when the members do not call for the same.
  void perform();

 private:
  struct Member {
    Side side;
    bool joined = false;
  };
  void check_alike() const;
  std::vector<char> reduced(std::size_t count) const;

  std::vector<Member> sides_;
  bool message_, first_;
  std::size_t num_joined_ = 0;
  bool done_ = false;
};

}  // namespace cuda_on_cpu::nccl
