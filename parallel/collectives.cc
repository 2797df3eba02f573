#include "parallel/collectives.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "parallel/reduce.h"

namespace terroir {
namespace {

const std::uint8_t* at(const void* data, std::int64_t bytes) {
  return static_cast<const std::uint8_t*>(data) + bytes;
}
std::uint8_t* at(void* data, std::int64_t bytes) { return static_cast<std::uint8_t*>(data) + bytes; }

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

// Everyone's whole view to everyone, and the same sum everywhere.
class SmallAllReduce : public Operation {
 public:
  SmallAllReduce(GroupPointer group, const OperationLabel& label, View inout, ReduceOp op)
      : Operation(std::move(group), label), inout_(inout), op_(op), sources_(this->group().ranks.size()) {}

 protected:
  bool next_stage() override {
    if (!std::exchange(posted_, true)) {
      post();
      return true;
    }
    reduce(inout_.dtype(), op_, sources_, inout_.numel(), inout_.raw());
    return false;
  }

 private:
  void post() {
    const int others = group().size() - 1;
    void* block = others > 0 ? scratch(others * inout_.bytes()) : nullptr;
    for (int peer = 0, slot = 0; peer < group().size(); ++peer) {
      if (peer == group().rank) {
        sources_[peer] = inout_.raw();
        continue;
      }
      void* arrival = at(block, slot++ * inout_.bytes());
      sources_[peer] = arrival;
      receive(peer, 0, arrival, inout_.bytes());
      send(peer, 0, inout_.raw(), inout_.bytes());
    }
  }

  View inout_;
  ReduceOp op_;
  bool posted_ = false;
  std::vector<const void*> sources_;  // [group rank]
};

// What one rank contributes, divided into a contiguous part per rank.
struct Parts {
  const void* data;
  DType dtype;
  std::int64_t items;          // divided by split_range
  std::int64_t item_elements;  // per item

  Range elements(int parts, int index) const {
    const Range range = split_range(items, parts, index);
    return {range.begin * item_elements, range.end * item_elements};
  }
};

class ReduceScatter : public Operation {
 public:
  // `out` receives this rank's part and may be its place in `in`.
  ReduceScatter(GroupPointer group, const OperationLabel& label, Parts in, void* out, ReduceOp op,
                const MessageLimits& limits)
      : Operation(std::move(group), label),
        in_(in),
        out_(out),
        op_(op),
        sources_(this->group().ranks.size()) {
    std::int64_t largest = 0;
    for (int part = 0; part < this->group().size(); ++part)
      largest = std::max(largest, part_elements(part).size());
    const std::int64_t segment = std::max<std::int64_t>(1, limits.segment_bytes / dtype_bytes(in.dtype));
    num_segments_ = static_cast<int>((largest + segment - 1) / segment);
  }

 protected:
  bool next_stage() override {
    if (segment_ > 0 && segment_ <= num_segments_) sum(segment_ - 1);
    if (segment_ >= num_segments_) {
      segment_ = num_segments_ + 1;
      return false;
    }
    post(segment_++);
    return true;
  }

  Range part_elements(int part) const { return in_.elements(group().size(), part); }
  const Parts& in() const { return in_; }

 private:
  // Elements of `part` that belong to `segment`, counted from the start of all parts.
  Range segment_elements(int part, int segment) const {
    const Range whole = part_elements(part);
    const Range piece = split_range(whole.size(), num_segments_, segment);
    return {whole.begin + piece.begin, whole.begin + piece.end};
  }

  void post(int segment) {
    const std::int64_t element = dtype_bytes(in_.dtype);
    const Range mine = segment_elements(group().rank, segment);
    const int others = group().size() - 1;
    const std::int64_t longest = (part_elements(group().rank).size() + num_segments_ - 1) / num_segments_;
    const std::int64_t stride = longest * element;
    void* block = others > 0 ? scratch(others * stride) : nullptr;
    for (int peer = 0, slot = 0; peer < group().size(); ++peer) {
      const Range theirs = segment_elements(peer, segment);
      if (peer == group().rank) {
        sources_[peer] = at(in_.data, mine.begin * element);
        continue;
      }
      void* arrival = at(block, slot++ * stride);
      sources_[peer] = arrival;
      receive(peer, segment, arrival, mine.size() * element);
      send(peer, segment, at(in_.data, theirs.begin * element), theirs.size() * element);
    }
  }

  void sum(int segment) {
    const Range mine = segment_elements(group().rank, segment);
    const std::int64_t offset = mine.begin - part_elements(group().rank).begin;
    reduce(in_.dtype, op_, sources_, mine.size(), at(out_, offset * dtype_bytes(in_.dtype)));
  }

  Parts in_;
  void* out_;
  ReduceOp op_;
  int num_segments_ = 0;
  int segment_ = 0;
  std::vector<const void*> sources_;  // [group rank], of the segment on its way
};

// In place: a reduce_scatter, and then everyone's summed part to everyone.
class LargeAllReduce : public ReduceScatter {
 public:
  LargeAllReduce(GroupPointer group, const OperationLabel& label, View inout, ReduceOp op,
                 const MessageLimits& limits)
      : ReduceScatter(group, label, Parts{inout.raw(), inout.dtype(), inout.numel(), 1},
                      at(inout.raw(), split_range(inout.numel(), group->size(), group->rank).begin *
                                          dtype_bytes(inout.dtype())),
                      op, limits),
        inout_(inout) {}

 protected:
  bool next_stage() override {
    if (gathering_) return false;
    if (ReduceScatter::next_stage()) return true;
    gathering_ = true;
    gather();
    return true;
  }

 private:
  static constexpr int kGatherPhase = -1;

  void gather() {
    const std::int64_t element = dtype_bytes(inout_.dtype());
    const Range mine = part_elements(group().rank);
    for (int peer = 0; peer < group().size(); ++peer) {
      if (peer == group().rank) continue;
      const Range theirs = part_elements(peer);
      receive(peer, kGatherPhase, at(inout_.raw(), theirs.begin * element), theirs.size() * element);
      send(peer, kGatherPhase, at(inout_.raw(), mine.begin * element), mine.size() * element);
    }
  }

  View inout_;
  bool gathering_ = false;
};

}  // namespace

std::int64_t row_bytes(const ConstView& view) {
  std::int64_t bytes = dtype_bytes(view.dtype());
  for (int dim = 1; dim < view.rank(); ++dim) bytes *= view.size(dim);
  return bytes;
}

std::shared_ptr<Operation> make_all_reduce(GroupPointer group, const OperationLabel& label, View inout,
                                           ReduceOp op, const MessageLimits& limits) {
  if (inout.bytes() * group->size() <= limits.small_bytes)
    return std::make_shared<SmallAllReduce>(std::move(group), label, inout, op);
  return std::make_shared<LargeAllReduce>(std::move(group), label, inout, op, limits);
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

std::shared_ptr<Operation> make_reduce_scatter(GroupPointer group, const OperationLabel& label, ConstView in,
                                               View out, const MessageLimits& limits) {
  const std::int64_t row_elements = row_bytes(in) / dtype_bytes(in.dtype());
  return std::make_shared<ReduceScatter>(std::move(group), label,
                                         Parts{in.raw(), in.dtype(), in.size(0), row_elements}, out.raw(),
                                         ReduceOp::kSum, limits);
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
