#include <algorithm>
#include <utility>
#include <vector>

#include "parallel/collectives.h"
#include "parallel/reduce.h"

namespace terroir {
namespace {

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
  LargeAllReduce(const GroupPointer& group, const OperationLabel& label, View inout, ReduceOp op,
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

std::shared_ptr<Operation> make_all_reduce(GroupPointer group, const OperationLabel& label, View inout,
                                           ReduceOp op, const MessageLimits& limits) {
  if (inout.bytes() * group->size() <= limits.small_bytes)
    return std::make_shared<SmallAllReduce>(std::move(group), label, inout, op);
  return std::make_shared<LargeAllReduce>(group, label, inout, op, limits);
}

std::shared_ptr<Operation> make_reduce_scatter(GroupPointer group, const OperationLabel& label, ConstView in,
                                               View out, const MessageLimits& limits) {
  const std::int64_t row_elements = row_bytes(in) / dtype_bytes(in.dtype());
  return std::make_shared<ReduceScatter>(std::move(group), label,
                                         Parts{in.raw(), in.dtype(), in.size(0), row_elements}, out.raw(),
                                         ReduceOp::kSum, limits);
}

}  // namespace terroir
