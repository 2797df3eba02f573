#include "parallel/collectives.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace terroir {
namespace {

// All messages at once: all_gather, all_to_all, send and recv.
class Exchange : public Operation {
 public:
  struct Send {
    int peer;
    const void* data;
    std::int64_t bytes;
  };
  struct Receive {
    int peer;
    void* data;
    std::int64_t bytes;
  };
  using Operation::Operation;
  std::vector<Send> sends;
  std::vector<Receive> receives;
  void keep(void* to, const void* from, std::int64_t bytes) {
    own_to_ = to, own_from_ = from, own_bytes_ = bytes;
  }

 protected:
  bool next_stage() override {
    if (std::exchange(posted_, true)) return false;
    if (own_to_ != own_from_ && own_bytes_ > 0)
      std::memmove(own_to_, own_from_, static_cast<std::size_t>(own_bytes_));
    for (const Receive& message : receives) receive(message.peer, 0, message.data, message.bytes);
    for (const Send& message : sends) send(message.peer, 0, message.data, message.bytes);
    return true;
  }

 private:
  bool posted_ = false;
  void* own_to_ = nullptr;
  const void* own_from_ = nullptr;
  std::int64_t own_bytes_ = 0;
};

class Broadcast : public Operation {
 public:
  Broadcast(GroupPointer group, const OperationLabel& label, View inout, int root)
      : Operation(std::move(group), label), inout_(inout), root_(root) {}

 protected:
  bool next_stage() override {
    const int size = group().size();
    const int place = (group().rank - root_ + size) % size;  // in the tree, root first
    // The parent of a place is the place without its lowest set bit.
    int child_bits = 1;
    while (child_bits < size && (place & child_bits) == 0) child_bits *= 2;
    switch (stage_++) {
      case 0:
        if (place != 0) receive((place - child_bits + root_) % size, 0, inout_.raw(), inout_.bytes());
        return true;
      case 1:
        for (int bit = child_bits / 2; bit > 0; bit /= 2)
          if (place + bit < size) send((place + bit + root_) % size, 0, inout_.raw(), inout_.bytes());
        return true;
      default:
        return false;
    }
  }

 private:
  View inout_;
  int root_;
  int stage_ = 0;
};

}  // namespace

std::int64_t row_bytes(const ConstView& view) {
  std::int64_t bytes = dtype_bytes(view.dtype());
  for (int dim = 1; dim < view.rank(); ++dim) bytes *= view.size(dim);
  return bytes;
}

std::shared_ptr<Operation> make_all_gather(GroupPointer group, const OperationLabel& label, ConstView in,
                                           View out) {
  const int size = group->size(), rank = group->rank;
  auto operation = std::make_shared<Exchange>(std::move(group), label);
  const std::int64_t row = row_bytes(out);
  for (int peer = 0; peer < size; ++peer) {
    const Range range = split_range(out.size(0), size, peer);
    void* place = at(out.raw(), range.begin * row);
    if (peer == rank) {
      operation->keep(place, in.raw(), in.bytes());
      continue;
    }
    operation->receives.push_back({peer, place, range.size() * row});
    operation->sends.push_back({peer, in.raw(), in.bytes()});
  }
  return operation;
}

std::shared_ptr<Operation> make_broadcast(GroupPointer group, const OperationLabel& label, View inout,
                                          int root) {
  return std::make_shared<Broadcast>(std::move(group), label, inout, root);
}

std::shared_ptr<Operation> make_all_to_all(GroupPointer group, const OperationLabel& label, ConstView in,
                                           View out, std::span<const std::int64_t> send_rows,
                                           std::span<const std::int64_t> recv_rows) {
  const int size = group->size(), rank = group->rank;
  auto operation = std::make_shared<Exchange>(std::move(group), label);
  const std::int64_t row = row_bytes(in);
  std::int64_t send_at = 0, recv_at = 0;
  for (int peer = 0; peer < size; ++peer) {
    const std::int64_t send_bytes = send_rows[peer] * row, recv_bytes = recv_rows[peer] * row;
    if (peer == rank) {
      operation->keep(at(out.raw(), recv_at), at(in.raw(), send_at), send_bytes);
    } else {
      operation->sends.push_back({peer, at(in.raw(), send_at), send_bytes});
      operation->receives.push_back({peer, at(out.raw(), recv_at), recv_bytes});
    }
    send_at += send_bytes;
    recv_at += recv_bytes;
  }
  return operation;
}

std::shared_ptr<Operation> make_send(GroupPointer group, const OperationLabel& label, ConstView in,
                                     int peer) {
  auto operation = std::make_shared<Exchange>(std::move(group), label);
  operation->sends.push_back({peer, in.raw(), in.bytes()});
  return operation;
}

std::shared_ptr<Operation> make_recv(GroupPointer group, const OperationLabel& label, View out, int peer) {
  auto operation = std::make_shared<Exchange>(std::move(group), label);
  operation->receives.push_back({peer, out.raw(), out.bytes()});
  return operation;
}

}  // namespace terroir
