#include "parallel/host_communicator.h"

#include <algorithm>

#include "parallel/collectives.h"
#include "parallel/message_hash.h"

namespace terroir {
namespace {

std::uint32_t group_identity(const Group& group) {
  std::uint32_t hash = kEmptyHash;
  for (const int rank : group.ranks) hash = hash_number(hash, static_cast<std::uint32_t>(rank));
  return hash;
}

}  // namespace

HostCommunicator::HostCommunicator(Group group, Progress* progress, const MessageLimits& limits)
    : group_(std::make_shared<const Group>(std::move(group))),
      progress_(progress),
      limits_(limits),
      checks_{Device{}, group_->rank, group_->size(), group_->name},
      identity_(group_identity(*group_)),
      num_sent_(group_->ranks.size()),
      num_received_(group_->ranks.size()) {}

OperationLabel HostCommunicator::collective_label(const char* call, std::string_view what,
                                                  const ConstView& view) {
  return {call, what, view, false, hash_number(hash_text(identity_, call), num_collectives_++)};
}

OperationLabel HostCommunicator::pair_label(const char* call, std::string_view what, const ConstView& view,
                                            int sender, int receiver, std::uint32_t& sequence) {
  std::uint32_t hash = hash_number(identity_, static_cast<std::uint32_t>(sender));
  hash = hash_number(hash, static_cast<std::uint32_t>(receiver));
  return {call, what, view, true, hash_number(hash, sequence++)};
}

Work HostCommunicator::start(std::shared_ptr<Operation> operation) {
  if (size() > 1) return progress_->submit(std::move(operation));
  operation->run_alone();
  return {};
}

Work HostCommunicator::all_reduce(View inout, ReduceOp op, const Stream&, std::string_view what) {
  checks_.all_reduce(inout, what);
  return start(make_all_reduce(group_, collective_label("all_reduce", what, inout), inout, op, limits_));
}

Work HostCommunicator::all_gather(ConstView in, View out, const Stream&, std::string_view what) {
  checks_.all_gather(in, out, what);
  return start(make_all_gather(group_, collective_label("all_gather", what, out), in, out));
}

Work HostCommunicator::reduce_scatter(ConstView in, View out, const Stream&, std::string_view what) {
  checks_.reduce_scatter(in, out, what);
  return start(make_reduce_scatter(group_, collective_label("reduce_scatter", what, in), in, out, limits_));
}

Work HostCommunicator::broadcast(View inout, int root, const Stream&, std::string_view what) {
  checks_.broadcast(inout, root, what);
  return start(make_broadcast(group_, collective_label("broadcast", what, inout), inout, root));
}

Work HostCommunicator::all_to_all(ConstView in, View out, std::span<const std::int64_t> send_rows,
                                  std::span<const std::int64_t> recv_rows, const Stream&,
                                  std::string_view what) {
  checks_.all_to_all(in, out, send_rows, recv_rows, what);
  return start(
      make_all_to_all(group_, collective_label("all_to_all", what, in), in, out, send_rows, recv_rows));
}

Work HostCommunicator::send(ConstView in, int peer, const Stream&, std::string_view what) {
  checks_.message("send", in, peer, what);
  return start(make_send(group_, pair_label("send", what, in, rank(), peer, num_sent_[peer]), in, peer));
}

Work HostCommunicator::recv(View out, int peer, const Stream&, std::string_view what) {
  checks_.message("recv", out, peer, what);
  return start(
      make_recv(group_, pair_label("recv", what, out, peer, rank(), num_received_[peer]), out, peer));
}

Group make_group(const std::vector<int>& ranks, int world_rank, int world_size, Queue queue,
                 std::string name) {
  const auto self = std::find(ranks.begin(), ranks.end(), world_rank);
  const bool ascending =
      std::adjacent_find(ranks.begin(), ranks.end(), std::greater_equal<>()) == ranks.end();
  TERROIR_CHECK(ascending && self != ranks.end() && ranks.front() >= 0 && ranks.back() < world_size,
                "group '{}' of {} ranks must be ascending world ranks below {} with rank {} among them", name,
                ranks.size(), world_size, world_rank);
  return {std::move(name), ranks, static_cast<int>(self - ranks.begin()), queue};
}

}  // namespace terroir
