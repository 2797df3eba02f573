// What every transport asks of a call's operands before anything is sent.
#pragma once

#include <span>
#include <string>

#include "parallel/communicator.h"

namespace terroir {

// For one member of a group, and tensors of one device. All throw ContractError with call, tensor and views.
struct OperandChecks {
  Device device;
  int rank, size;
  std::string group;

  void all_reduce(const ConstView& inout, std::string_view what) const;
  void all_gather(const ConstView& in, const ConstView& out, std::string_view what) const;
  void reduce_scatter(const ConstView& in, const ConstView& out, std::string_view what) const;
  void broadcast(const ConstView& inout, int root, std::string_view what) const;
  void all_to_all(const ConstView& in, const ConstView& out, std::span<const std::int64_t> send_rows,
                  std::span<const std::int64_t> recv_rows, std::string_view what) const;
  // call: "send" or "recv".
  void message(const char* call, const ConstView& view, int peer, std::string_view what) const;

 private:
  void check_memory(const char* call, const ConstView& view, std::string_view what) const;
  void check_part(const char* call, const ConstView& part, const ConstView& whole,
                  std::string_view what) const;
  void check_rows(const char* side, const ConstView& view, std::span<const std::int64_t> rows,
                  std::string_view what) const;
};

}  // namespace terroir
