#include "parallel/host_communicator.h"

#include <algorithm>
#include <numeric>

#include "parallel/collectives.h"
#include "parallel/message_hash.h"

namespace terroir {
namespace {

std::uint32_t group_identity(const Group& group) {
  std::uint32_t hash = kEmptyHash;
  for (const int rank : group.ranks) hash = hash_number(hash, static_cast<std::uint32_t>(rank));
  return hash;
}

void check_host(const char* call, const ConstView& view, std::string_view what) {
  TERROIR_CHECK(view.rank() >= 1 && view.is_contiguous() && view.device().kind == DeviceKind::kCpu,
                "{} of '{}': {} is not contiguous host memory", call, what, view.describe());
}

void check_reducible(const char* call, const ConstView& view, std::string_view what) {
  TERROIR_CHECK(view.dtype() != DType::kU8, "{} of '{}': u8 cannot be reduced", call, what);
}

// `part` is this rank's part of `whole` along dimension 0.
void check_part(const char* call, const ConstView& part, const ConstView& whole, const Group& group,
                std::string_view what) {
  check_host(call, part, what);
  check_host(call, whole, what);
  const Range range = split_range(whole.size(0), group.size(), group.rank);
  TERROIR_CHECK(
      part.dtype() == whole.dtype() && part.size(0) == range.size() && row_bytes(part) == row_bytes(whole),
      "{} of '{}': part {} of {} is rows {} to {} of {}, not {}", call, what, group.rank, group.size(),
      range.begin, range.end, whole.describe(), part.describe());
}

void check_rows(const char* side, const ConstView& view, std::span<const std::int64_t> rows,
                const Group& group, std::string_view what) {
  check_host("all_to_all", view, what);
  const bool counts_fit = std::ssize(rows) == group.size() &&
                          std::all_of(rows.begin(), rows.end(), [](std::int64_t n) { return n >= 0; });
  const std::int64_t total = std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
  TERROIR_CHECK(counts_fit && total <= view.size(0),
                "all_to_all of '{}': {} {} counts with sum {} for {} ranks and {}", what, rows.size(), side,
                total, group.size(), view.describe());
}

}  // namespace

HostCommunicator::HostCommunicator(Group group, Progress* progress, const MessageLimits& limits)
    : group_(std::make_shared<const Group>(std::move(group))),
      progress_(progress),
      limits_(limits),
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

void HostCommunicator::check_peer(const char* call, int peer) const {
  TERROIR_CHECK(peer >= 0 && peer < size() && peer != rank(), "{}: peer {} of rank {} in group {} of {}",
                call, peer, rank(), name(), size());
}

Work HostCommunicator::all_reduce(View inout, ReduceOp op, const Stream&, std::string_view what) {
  check_host("all_reduce", inout, what);
  check_reducible("all_reduce", inout, what);
  return start(make_all_reduce(group_, collective_label("all_reduce", what, inout), inout, op, limits_));
}

Work HostCommunicator::all_gather(ConstView in, View out, const Stream&, std::string_view what) {
  check_part("all_gather", in, out, *group_, what);
  return start(make_all_gather(group_, collective_label("all_gather", what, out), in, out));
}

Work HostCommunicator::reduce_scatter(ConstView in, View out, const Stream&, std::string_view what) {
  check_part("reduce_scatter", out, in, *group_, what);
  check_reducible("reduce_scatter", in, what);
  return start(make_reduce_scatter(group_, collective_label("reduce_scatter", what, in), in, out, limits_));
}

Work HostCommunicator::broadcast(View inout, int root, const Stream&, std::string_view what) {
  check_host("broadcast", inout, what);
  TERROIR_CHECK(root >= 0 && root < size(), "broadcast of '{}': root {} of {} ranks", what, root, size());
  return start(make_broadcast(group_, collective_label("broadcast", what, inout), inout, root));
}

Work HostCommunicator::all_to_all(ConstView in, View out, std::span<const std::int64_t> send_rows,
                                  std::span<const std::int64_t> recv_rows, const Stream&,
                                  std::string_view what) {
  check_rows("send", in, send_rows, *group_, what);
  check_rows("receive", out, recv_rows, *group_, what);
  TERROIR_CHECK(
      in.dtype() == out.dtype() && row_bytes(in) == row_bytes(out) && send_rows[rank()] == recv_rows[rank()],
      "all_to_all of '{}': rows of {} to rows of {}, {} sent to itself and {} received", what, in.describe(),
      out.describe(), send_rows[rank()], recv_rows[rank()]);
  return start(
      make_all_to_all(group_, collective_label("all_to_all", what, in), in, out, send_rows, recv_rows));
}

Work HostCommunicator::send(ConstView in, int peer, const Stream&, std::string_view what) {
  check_host("send", in, what);
  check_peer("send", peer);
  return start(make_send(group_, pair_label("send", what, in, rank(), peer, num_sent_[peer]), in, peer));
}

Work HostCommunicator::recv(View out, int peer, const Stream&, std::string_view what) {
  check_host("recv", out, what);
  check_peer("recv", peer);
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
