// The collectives as state machines over point-to-point transfers (see communicator.h for what each one
// means). Sizes have been checked by the caller. Groups have at most a few dozen host ranks, so exchanges are
// direct: every member sends to every other at once.
#pragma once

#include <memory>
#include <span>

#include "parallel/progress.h"

namespace terroir {

using GroupPointer = std::shared_ptr<const Group>;

// reduce_scatter + all_gather over elements; for small views one exchange of everything and the same sum on
// every rank.
std::shared_ptr<Operation> make_all_reduce(GroupPointer group, const OperationLabel& label, View inout,
                                           ReduceOp op, const MessageLimits& limits);
std::shared_ptr<Operation> make_all_gather(GroupPointer group, const OperationLabel& label, ConstView in,
                                           View out);
// all_to_all of parts, each cut into segments, and a local sum in group-rank order.
std::shared_ptr<Operation> make_reduce_scatter(GroupPointer group, const OperationLabel& label, ConstView in,
                                               View out, const MessageLimits& limits);
// Along a binomial tree.
std::shared_ptr<Operation> make_broadcast(GroupPointer group, const OperationLabel& label, View inout,
                                          int root);
std::shared_ptr<Operation> make_all_to_all(GroupPointer group, const OperationLabel& label, ConstView in,
                                           View out, std::span<const std::int64_t> send_rows,
                                           std::span<const std::int64_t> recv_rows);
std::shared_ptr<Operation> make_send(GroupPointer group, const OperationLabel& label, ConstView in, int peer);
std::shared_ptr<Operation> make_recv(GroupPointer group, const OperationLabel& label, View out, int peer);

// Bytes of one index of dimension 0.
std::int64_t row_bytes(const ConstView& view);

inline const std::uint8_t* at(const void* data, std::int64_t bytes) {
  return static_cast<const std::uint8_t*>(data) + bytes;
}
inline std::uint8_t* at(void* data, std::int64_t bytes) { return static_cast<std::uint8_t*>(data) + bytes; }

}  // namespace terroir
