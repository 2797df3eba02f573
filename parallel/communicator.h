// Communication between ranks, independent of what carries it. The same tests run over every transport.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

// Work on one queue is ordered; different queues never wait for each other. Each queue has channels of its
// own, so a pipeline receive that waits for a peer cannot block a gradient reduction.
enum class Queue : std::uint8_t { kTensor, kData, kPipelineForward, kPipelineBackward, kControl };

enum class ReduceOp : std::uint8_t { kSum, kMax };

// [begin, end) of part `index` when `n` items are divided over `parts` ranks as evenly as whole items allow.
// This is how dimension 0 is divided everywhere: tokens under sequence parallelism, vocabulary rows, layers
// over stages.
struct Range {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};
constexpr Range split_range(std::int64_t n, int parts, int index) {
  return {n * index / parts, n * (index + 1) / parts};
}

// An operation on its way, as its transport knows it.
class PendingOperation {
 public:
  virtual ~PendingOperation() = default;
  virtual void wait() = 0;
  virtual bool done() const = 0;
};

// Destroying the last copy of a Work without wait() is allowed only once the operation is known to be
// complete; otherwise (an exception is unwinding) the operation is cancelled, so that the transport lets go
// of the caller's memory, and every later operation of this rank fails.
class Work {
 public:
  Work() = default;  // an operation that is already complete
  explicit Work(std::shared_ptr<PendingOperation> pending) : pending_(std::move(pending)) {}
  // Host transports: returns when the result is in memory and the inputs may be reused. Throws TransportError
  // when the deadline passes or a peer is gone, and ContractError when the members' sizes differ.
  void wait();
  // wait() would return or throw at once.
  bool done() const { return !pending_ || pending_->done(); }

 private:
  std::shared_ptr<PendingOperation> pending_;
};

// A peer died, froze or is cut off, or the transport itself failed. Exit code 7. The message names this rank,
// the step, which collective on which tensor, the group and the ranks it waited for.
class TransportError : public SystemError {
 public:
  TransportError(std::string_view call, std::string_view text)
      : SystemError(call, text, ExitCode::kTransport) {}
};

// One group of ranks on one queue.
//
// Every operation is collective over the group (send/recv: over the pair), must be called by all members in
// the same order with matching shapes, and is asynchronous: the inputs are read after the work enqueued on
// `stream` before the call, and neither inputs nor outputs may be touched until wait(). Views are contiguous
// host or device memory. `what` names the tensor in error messages and must outlive the operation.
//
// Order on one queue: a collective starts when everything before it is complete, a send or recv when every
// collective before it is. Sends and recvs do not wait for each other, so a recv may be posted long before
// its message; between two ranks they match in the order they were posted.
//
// dtypes: all_reduce and reduce_scatter f32, bf16 (accumulated in f32), f64, i32, i64; the others any.
// Determinism: sums are taken in group-rank order with f32 accumulation (f64 and integers in their own type),
// so results are the same bits on every host transport, for any timing, and equal on all ranks. A bf16 sum is
// rounded once there. NCCL adds in an order of its own choice and rounds a bf16 sum at every hop; equal on
// all ranks too.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;  // in this group
  virtual int size() const = 0;
  virtual const std::string& name() const = 0;  // "tensor", "data", ...

  virtual Work all_reduce(View inout, ReduceOp op, const Stream& stream, std::string_view what) = 0;
  // `out` is divided along dimension 0 by split_range(out.size(0), size(), r); `in` is this rank's part and
  // may alias its place in `out`. Parts may differ in size or be empty.
  virtual Work all_gather(ConstView in, View out, const Stream& stream, std::string_view what) = 0;
  // The sum over ranks of `in`, of which `out` is this rank's part along dimension 0 (as above; may alias its
  // place in `in`). `in` is left unspecified when it aliases, unchanged otherwise.
  virtual Work reduce_scatter(ConstView in, View out, const Stream& stream, std::string_view what) = 0;
  virtual Work broadcast(View inout, int root, const Stream& stream, std::string_view what) = 0;
  // Rows [sum of send_rows before p, ...) of `in` go to peer p; rows arrive in `out` in rank order,
  // recv_rows[p] from p.
  virtual Work all_to_all(ConstView in, View out, std::span<const std::int64_t> send_rows,
                          std::span<const std::int64_t> recv_rows, const Stream& stream,
                          std::string_view what) = 0;
  virtual Work send(ConstView in, int peer, const Stream& stream, std::string_view what) = 0;
  virtual Work recv(View out, int peer, const Stream& stream, std::string_view what) = 0;

  void barrier(const Stream& stream, std::string_view what);
};

}  // namespace terroir
