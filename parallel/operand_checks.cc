#include "parallel/operand_checks.h"

#include <algorithm>
#include <numeric>

#include "parallel/collectives.h"

namespace terroir {
namespace {

void check_reducible(const char* call, const ConstView& view, std::string_view what) {
  TERROIR_CHECK(view.dtype() != DType::kU8, "{} of '{}': u8 cannot be reduced", call, what);
}

}  // namespace

void OperandChecks::check_memory(const char* call, const ConstView& view, std::string_view what) const {
  TERROIR_CHECK(view.rank() >= 1 && view.is_contiguous() && view.device() == device,
                "{} of '{}': {} is not contiguous {} memory", call, what, view.describe(),
                device.kind == DeviceKind::kCpu ? "host" : "device");
}

// `part` is this rank's part of `whole` along dimension 0.
void OperandChecks::check_part(const char* call, const ConstView& part, const ConstView& whole,
                               std::string_view what) const {
  check_memory(call, part, what);
  check_memory(call, whole, what);
  const Range range = split_range(whole.size(0), size, rank);
  TERROIR_CHECK(
      part.dtype() == whole.dtype() && part.size(0) == range.size() && row_bytes(part) == row_bytes(whole),
      "{} of '{}': part {} of {} is rows {} to {} of {}, not {}", call, what, rank, size, range.begin,
      range.end, whole.describe(), part.describe());
}

void OperandChecks::check_rows(const char* side, const ConstView& view, std::span<const std::int64_t> rows,
                               std::string_view what) const {
  check_memory("all_to_all", view, what);
  const bool counts_fit = std::ssize(rows) == size &&
                          std::all_of(rows.begin(), rows.end(), [](std::int64_t n) { return n >= 0; });
  const std::int64_t total = std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
  TERROIR_CHECK(counts_fit && total <= view.size(0),
                "all_to_all of '{}': {} {} counts with sum {} for {} ranks and {}", what, rows.size(), side,
                total, size, view.describe());
}

void OperandChecks::all_reduce(const ConstView& inout, std::string_view what) const {
  check_memory("all_reduce", inout, what);
  check_reducible("all_reduce", inout, what);
}

void OperandChecks::all_gather(const ConstView& in, const ConstView& out, std::string_view what) const {
  check_part("all_gather", in, out, what);
}

void OperandChecks::reduce_scatter(const ConstView& in, const ConstView& out, std::string_view what) const {
  check_part("reduce_scatter", out, in, what);
  check_reducible("reduce_scatter", in, what);
}

void OperandChecks::broadcast(const ConstView& inout, int root, std::string_view what) const {
  check_memory("broadcast", inout, what);
  TERROIR_CHECK(root >= 0 && root < size, "broadcast of '{}': root {} of {} ranks", what, root, size);
}

void OperandChecks::all_to_all(const ConstView& in, const ConstView& out,
                               std::span<const std::int64_t> send_rows,
                               std::span<const std::int64_t> recv_rows, std::string_view what) const {
  check_rows("send", in, send_rows, what);
  check_rows("receive", out, recv_rows, what);
  TERROIR_CHECK(
      in.dtype() == out.dtype() && row_bytes(in) == row_bytes(out) && send_rows[rank] == recv_rows[rank],
      "all_to_all of '{}': rows of {} to rows of {}, {} sent to itself and {} received", what, in.describe(),
      out.describe(), send_rows[rank], recv_rows[rank]);
}

void OperandChecks::message(const char* call, const ConstView& view, int peer, std::string_view what) const {
  check_memory(call, view, what);
  TERROIR_CHECK(peer >= 0 && peer < size && peer != rank, "{}: peer {} of rank {} in group {} of {}", call,
                peer, rank, group, size);
}

}  // namespace terroir
