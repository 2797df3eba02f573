// The Communicator of every host transport.
#pragma once

#include <memory>
#include <vector>

#include "parallel/operand_checks.h"
#include "parallel/progress.h"

namespace terroir {

class HostCommunicator : public Communicator {
 public:
  // `progress` must outlive this; it is not used (and may be null) for a group of one.
  HostCommunicator(Group group, Progress* progress, const MessageLimits& limits);

  int rank() const override { return group_->rank; }
  int size() const override { return group_->size(); }
  const std::string& name() const override { return group_->name; }

  // Views that are not contiguous host memory, or whose shapes do not fit, throw ContractError before
  // anything is sent.
  Work all_reduce(View inout, ReduceOp op, const Stream& stream, std::string_view what) override;
  Work all_gather(ConstView in, View out, const Stream& stream, std::string_view what) override;
  Work reduce_scatter(ConstView in, View out, const Stream& stream, std::string_view what) override;
  Work broadcast(View inout, int root, const Stream& stream, std::string_view what) override;
  Work all_to_all(ConstView in, View out, std::span<const std::int64_t> send_rows,
                  std::span<const std::int64_t> recv_rows, const Stream& stream,
                  std::string_view what) override;
  Work send(ConstView in, int peer, const Stream& stream, std::string_view what) override;
  Work recv(View out, int peer, const Stream& stream, std::string_view what) override;

 private:
  OperationLabel collective_label(const char* call, std::string_view what, const ConstView& view);
  OperationLabel pair_label(const char* call, std::string_view what, const ConstView& view, int sender,
                            int receiver, std::uint32_t& sequence);
  Work start(std::shared_ptr<Operation> operation);

  std::shared_ptr<const Group> group_;
  Progress* progress_;
  MessageLimits limits_;
  OperandChecks checks_;
  std::uint32_t identity_;  // of the group: equal on all members
  std::uint32_t num_collectives_ = 0;
  std::vector<std::uint32_t> num_sent_, num_received_;  // [group rank]
};

// Checks the ranks of a group (ascending, in the world, containing `world_rank`) and finds this rank among
// them.
Group make_group(const std::vector<int>& ranks, int world_rank, int world_size, Queue queue,
                 std::string name);

}  // namespace terroir
