#include "parallel/nccl/nccl_communicator.h"

#include <fmt/core.h>

#include <map>

#include "kernels/tensor/buffer.h"
#include "parallel/operand_checks.h"

namespace terroir::nccl {
namespace {

ncclDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return ncclFloat32;
    case DType::kBF16:
      return ncclBfloat16;
    case DType::kF64:
      return ncclFloat64;
    case DType::kI32:
      return ncclInt32;
    case DType::kI64:
      return ncclInt64;
    case DType::kU8:
      return ncclUint8;
  }
  TERROIR_CHECK(false, "no such dtype");
}

ncclRedOp_t reduce_op(ReduceOp op) { return op == ReduceOp::kSum ? ncclSum : ncclMax; }

std::size_t count(const ConstView& view) { return static_cast<std::size_t>(view.numel()); }

class FlyingOperation : public PendingOperation {
 public:
  FlyingOperation(std::shared_ptr<Flight> flight, const Stream& stream, Watch& watch)
      : flight_(std::move(flight)), stream_(stream), watch_(watch) {}
  // Nobody will wait: an exception is unwinding, and the tensor may go.
  ~FlyingOperation() override {
    if (!waited_) watch_.give_up(*flight_);
  }
  void wait() override {
    flight_->complete.order_before(stream_);
    waited_ = true;
  }
  bool done() const override { return flight_->complete.done(); }

 private:
  std::shared_ptr<Flight> flight_;
  Stream stream_;
  Watch& watch_;
  bool waited_ = false;
};

// A channel the watch knows of as long as it lives: a failure elsewhere ends its connecting too.
class WatchedChannel {
 public:
  WatchedChannel(const Environment& env, const ncclUniqueId& id, int size, int rank, const std::string& name)
      : watch_(env.watch), channel_(id, size, rank, env.device, env.timeout_s) {
    watch_.add_channel(&channel_);
    try {
      channel_.connect(size, name);
      watch_.check();
    } catch (...) {
      watch_.remove_channel(&channel_);  // the destructor will not run
      throw;
    }
  }
  ~WatchedChannel() { watch_.remove_channel(&channel_); }
  WatchedChannel(const WatchedChannel&) = delete;
  WatchedChannel& operator=(const WatchedChannel&) = delete;
  Channel& channel() { return channel_; }

 private:
  Watch& watch_;
  Channel channel_;
};

View id_view(ncclUniqueId& id) { return {id.internal, DType::kU8, {NCCL_UNIQUE_ID_BYTES}}; }

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(std::unique_ptr<Communicator> host, bool pipeline, const Environment& env)
      : host_(std::move(host)), env_(env), checks_{env.device, host_->rank(), host_->size(), host_->name()} {
    if (size() == 1) return;
    connect_all();
    if (pipeline) connect_neighbours();
  }

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  const std::string& name() const override { return host_->name(); }

  Work all_reduce(View inout, ReduceOp op, const Stream& stream, std::string_view what) override {
    if (on_host(inout)) return host_->all_reduce(inout, op, stream, what);
    checks_.all_reduce(inout, what);
    return run("all_reduce", inout, stream, what, [&](ncclComm_t comm, cudaStream_t own) {
      check(ncclAllReduce(inout.raw(), inout.raw(), count(inout), data_type(inout.dtype()), reduce_op(op),
                          comm, own),
            "ncclAllReduce");
    });
  }

  Work all_gather(ConstView in, View out, const Stream& stream, std::string_view what) override {
    if (on_host(out)) return host_->all_gather(in, out, stream, what);
    checks_.all_gather(in, out, what);
    if (size() == 1) return copy_if_elsewhere(in, out, stream);
    return run("all_gather", out, stream, what, [&](ncclComm_t comm, cudaStream_t own) {
      const ncclDataType_t type = data_type(out.dtype());
      if (out.size(0) % size() == 0) {
        check(ncclAllGather(in.raw(), out.raw(), count(in), type, comm, own), "ncclAllGather");
        return;
      }
      for (int root = 0; root < size(); ++root) {
        const View part = part_of(out, root);
        check(ncclBroadcast(root == rank() ? in.raw() : part.raw(), part.raw(), count(part), type, root, comm,
                            own),
              "ncclBroadcast");
      }
    });
  }

  Work reduce_scatter(ConstView in, View out, const Stream& stream, std::string_view what) override {
    if (on_host(out)) return host_->reduce_scatter(in, out, stream, what);
    checks_.reduce_scatter(in, out, what);
    if (size() == 1) return copy_if_elsewhere(in, out, stream);
    return run("reduce_scatter", in, stream, what, [&](ncclComm_t comm, cudaStream_t own) {
      const ncclDataType_t type = data_type(in.dtype());
      if (in.size(0) % size() == 0) {
        check(ncclReduceScatter(in.raw(), out.raw(), count(out), type, ncclSum, comm, own),
              "ncclReduceScatter");
        return;
      }
      for (int root = 0; root < size(); ++root) {
        const ConstView part = part_of(in, root);
        check(ncclReduce(part.raw(), out.raw(), count(part), type, ncclSum, root, comm, own), "ncclReduce");
      }
    });
  }

  Work broadcast(View inout, int root, const Stream& stream, std::string_view what) override {
    if (on_host(inout)) return host_->broadcast(inout, root, stream, what);
    checks_.broadcast(inout, root, what);
    return run("broadcast", inout, stream, what, [&](ncclComm_t comm, cudaStream_t own) {
      check(ncclBroadcast(inout.raw(), inout.raw(), count(inout), data_type(inout.dtype()), root, comm, own),
            "ncclBroadcast");
    });
  }

  Work all_to_all(ConstView in, View out, std::span<const std::int64_t> send_rows,
                  std::span<const std::int64_t> recv_rows, const Stream& stream,
                  std::string_view what) override {
    if (on_host(out)) return host_->all_to_all(in, out, send_rows, recv_rows, stream, what);
    checks_.all_to_all(in, out, send_rows, recv_rows, what);
    if (size() == 1) return copy_if_elsewhere(in, out, stream);
    const ConstView moved = out.numel() > 0 ? ConstView(out) : in;  // who receives nothing may send
    return run("all_to_all", moved, stream, what, [&](ncclComm_t comm, cudaStream_t own) {
      std::int64_t sent = 0, received = 0;
      for (std::size_t peer = 0; peer < send_rows.size(); ++peer) {
        const ConstView to = in.slice(0, sent, sent + send_rows[peer]);
        const View from = out.slice(0, received, received + recv_rows[peer]);
        sent += send_rows[peer];
        received += recv_rows[peer];
        const int p = static_cast<int>(peer);
        if (count(to) > 0)
          check(ncclSend(to.raw(), count(to), data_type(in.dtype()), p, comm, own), "ncclSend");
        if (count(from) > 0)
          check(ncclRecv(from.raw(), count(from), data_type(out.dtype()), p, comm, own), "ncclRecv");
      }
    });
  }

  Work send(ConstView in, int peer, const Stream& stream, std::string_view what) override {
    if (on_host(in)) return host_->send(in, peer, stream, what);
    checks_.message("send", in, peer, what);
    return send_on(pair(rank(), peer), in, stream, what);
  }

  Work recv(View out, int peer, const Stream& stream, std::string_view what) override {
    if (on_host(out)) return host_->recv(out, peer, stream, what);
    checks_.message("recv", out, peer, what);
    return recv_on(pair(peer, rank()), out, stream, what);
  }

 private:
  static bool on_host(const ConstView& view) { return view.device().kind == DeviceKind::kCpu; }
  template <class AnyView>
  AnyView part_of(const AnyView& whole, int index) const {
    const Range part = split_range(whole.size(0), size(), index);
    return whole.slice(0, part.begin, part.end);
  }
  static Work copy_if_elsewhere(ConstView in, View out, const Stream& stream) {
    if (in.raw() != out.raw()) transfer(stream, in, out);
    return {};
  }

  void connect_all() {
    ncclUniqueId id{};
    if (rank() == 0) check(ncclGetUniqueId(&id), "ncclGetUniqueId");
    host_->broadcast(id_view(id), 0, Stream(), "NCCL id").wait();
    all_ = std::make_unique<WatchedChannel>(env_, id, size(), rank(), name());
  }

  // Pairs in the order of their first member: no circle of ranks that wait for each other.
  void connect_neighbours() {
    for (int first = 0; first < size(); ++first) {
      const int second = (first + 1) % size();
      if (rank() != first && rank() != second) continue;
      pair(first, second);
      if (size() > 2 || first == 0) pair(second, first);
    }
  }

  // The channel for messages from one member to another: created by both, in the order of their messages.
  Channel& pair(int from, int to) {
    std::unique_ptr<WatchedChannel>& found = pairs_[{from, to}];
    if (!found) {
      ncclUniqueId id{};
      const bool sender = rank() == from;
      if (sender) check(ncclGetUniqueId(&id), "ncclGetUniqueId");
      (sender ? host_->send(id_view(id), to, Stream(), "NCCL id")
              : host_->recv(id_view(id), from, Stream(), "NCCL id"))
          .wait();
      found = std::make_unique<WatchedChannel>(env_, id, 2, sender ? 0 : 1,
                                               fmt::format("{} {}-{}", name(), from, to));
      exchange_first(found->channel(), sender);
    }
    return found->channel();
  }

  // NCCL connects a pair at its first message, and the host waits for the peer's call: here both are at it,
  // later a receive is posted long before its message.
  void exchange_first(Channel& channel, bool sender) {
    const Buffer memory(4, env_.device);
    const View token = memory.view(DType::kF32, {1});
    Work work = sender ? send_on(channel, token, channel.stream(), "connection")
                       : recv_on(channel, token, channel.stream(), "connection");
    work.wait();
    synchronize(channel.stream());
    env_.watch.check();
  }

  Work send_on(Channel& channel, ConstView in, const Stream& stream, std::string_view what) {
    return run_on(channel, "send", in, stream, what, [&](ncclComm_t comm, cudaStream_t own) {
      check(ncclSend(in.raw(), count(in), data_type(in.dtype()), 1, comm, own), "ncclSend");
    });
  }
  Work recv_on(Channel& channel, View out, const Stream& stream, std::string_view what) {
    return run_on(channel, "recv", out, stream, what, [&](ncclComm_t comm, cudaStream_t own) {
      check(ncclRecv(out.raw(), count(out), data_type(out.dtype()), 0, comm, own), "ncclRecv");
    });
  }

  Work run(const char* call, const ConstView& tensor, const Stream& stream, std::string_view what,
           const Channel::Calls& calls) {
    if (size() == 1) return {};
    return run_on(all_->channel(), call, tensor, stream, what, calls);
  }

  Work run_on(Channel& channel, const char* call, const ConstView& tensor, const Stream& stream,
              std::string_view what, const Channel::Calls& calls) {
    if (tensor.numel() == 0) return {};
    std::shared_ptr<Flight> flight = env_.watch.take();
    flight->channel = &channel;
    flight->call = call;
    flight->what = what;
    flight->group = name();
    flight->tensor = tensor;
    flight->inputs_ready.record(stream);
    flight->inputs_ready.order_before(channel.stream());
    try {
      channel.enqueue(call, calls);
    } catch (const TransportError& error) {
      env_.watch.lost(*flight, error.what());
    }
    flight->complete.record(channel.stream());
    env_.watch.add(flight);
    return Work(std::make_shared<FlyingOperation>(std::move(flight), stream, env_.watch));
  }

  std::unique_ptr<Communicator> host_;
  Environment env_;
  OperandChecks checks_;
  std::unique_ptr<WatchedChannel> all_;
  std::map<std::pair<int, int>, std::unique_ptr<WatchedChannel>> pairs_;
};

}  // namespace

std::unique_ptr<Communicator> nccl_communicator(std::unique_ptr<Communicator> host, bool pipeline,
                                                const Environment& env) {
  return std::make_unique<NcclCommunicator>(std::move(host), pipeline, env);
}

}  // namespace terroir::nccl
