#include "parallel/nccl/nccl_world.h"

#include <fmt/ranges.h>

#include <map>

#include "parallel/nccl/watch.h"

namespace terroir {
namespace nccl {
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

cudaStream_t native(const Stream& stream) { return static_cast<cudaStream_t>(stream.native()); }

std::size_t count(const ConstView& view) { return static_cast<std::size_t>(view.numel()); }

// All calls until its end are one operation.
class GroupCall {
 public:
  GroupCall() { check(ncclGroupStart(), "ncclGroupStart"); }
  void end() {
    open_ = false;
    check(ncclGroupEnd(), "ncclGroupEnd");
  }
  ~GroupCall() {
    if (open_) ncclGroupEnd();
  }
  GroupCall(const GroupCall&) = delete;
  GroupCall& operator=(const GroupCall&) = delete;

 private:
  bool open_ = true;
};

class FlyingOperation : public PendingOperation {
 public:
  FlyingOperation(std::shared_ptr<Flight> flight, const Stream& stream)
      : flight_(std::move(flight)), stream_(stream) {}
  void wait() override { flight_->complete.order_before(stream_); }
  bool done() const override { return flight_->complete.done(); }

 private:
  std::shared_ptr<Flight> flight_;
  Stream stream_;
};

struct Environment {
  Device device;
  double timeout_s;
  Watch& watch;
};

// A channel the watch knows of as long as it lives.
class WatchedChannel {
 public:
  WatchedChannel(const Environment& env, const ncclUniqueId& id, int size, int rank, const std::string& name)
      : watch_(env.watch), channel_(id, size, rank, env.device, env.timeout_s, name) {
    watch_.add_channel(&channel_);
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
      : host_(std::move(host)), env_(env) {
    if (size() == 1) return;
    connect_all();
    if (pipeline) connect_neighbours();
  }

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  const std::string& name() const override { return host_->name(); }

  Work all_reduce(View inout, ReduceOp op, const Stream& stream, std::string_view what) override {
    if (on_host(inout)) return host_->all_reduce(inout, op, stream, what);
    return run("all_reduce", inout, stream, what, [&](ncclComm_t comm, cudaStream_t own) {
      check(ncclAllReduce(inout.raw(), inout.raw(), count(inout), data_type(inout.dtype()), reduce_op(op),
                          comm, own),
            "ncclAllReduce");
    });
  }

  Work all_gather(ConstView in, View out, const Stream& stream, std::string_view what) override {
    if (on_host(out)) return host_->all_gather(in, out, stream, what);
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
    return run("broadcast", inout, stream, what, [&](ncclComm_t comm, cudaStream_t own) {
      check(ncclBroadcast(inout.raw(), inout.raw(), count(inout), data_type(inout.dtype()), root, comm, own),
            "ncclBroadcast");
    });
  }

  Work all_to_all(ConstView in, View out, std::span<const std::int64_t> send_rows,
                  std::span<const std::int64_t> recv_rows, const Stream& stream,
                  std::string_view what) override {
    if (on_host(out)) return host_->all_to_all(in, out, send_rows, recv_rows, stream, what);
    if (size() == 1) return copy_if_elsewhere(in, out, stream);
    return run("all_to_all", out, stream, what, [&](ncclComm_t comm, cudaStream_t own) {
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
    return run_on(pair(rank(), peer), "send", in, stream, what, [&](ncclComm_t comm, cudaStream_t own) {
      check(ncclSend(in.raw(), count(in), data_type(in.dtype()), 1, comm, own), "ncclSend");
    });
  }

  Work recv(View out, int peer, const Stream& stream, std::string_view what) override {
    if (on_host(out)) return host_->recv(out, peer, stream, what);
    return run_on(pair(peer, rank()), "recv", out, stream, what, [&](ncclComm_t comm, cudaStream_t own) {
      check(ncclRecv(out.raw(), count(out), data_type(out.dtype()), 0, comm, own), "ncclRecv");
    });
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
    }
    return found->channel();
  }

  template <class Calls>
  Work run(const char* call, const ConstView& tensor, const Stream& stream, std::string_view what,
           Calls calls) {
    if (size() == 1) return {};
    return run_on(all_->channel(), call, tensor, stream, what, calls);
  }

  template <class Calls>
  Work run_on(Channel& channel, const char* call, const ConstView& tensor, const Stream& stream,
              std::string_view what, Calls calls) {
    if (tensor.numel() == 0) return {};
    std::shared_ptr<Flight> flight = env_.watch.take();
    flight->channel = &channel;
    flight->call = call;
    flight->what = what;
    flight->group = name();
    flight->tensor = tensor;
    flight->inputs_ready.record(stream);
    flight->inputs_ready.order_before(channel.stream());
    GroupCall group;
    calls(channel.communicator(), native(channel.stream()));
    group.end();
    channel.settle(call);
    flight->complete.record(channel.stream());
    env_.watch.add(flight);
    return Work(std::make_shared<FlyingOperation>(std::move(flight), stream));
  }

  std::unique_ptr<Communicator> host_;
  Environment env_;
  std::unique_ptr<WatchedChannel> all_;
  std::map<std::pair<int, int>, std::unique_ptr<WatchedChannel>> pairs_;
};

class NcclWorld : public World {
 public:
  NcclWorld(World& host, Device device, const WorldOptions& options)
      : host_(host),
        watch_(device, host.rank(), options.timeout_s),
        env_{device, options.timeout_s, watch_} {}

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  int local_rank() const override { return host_.local_rank(); }
  int local_size() const override { return host_.local_size(); }
  const std::string& transport() const override { return transport_; }
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks, Queue queue, std::string name) override {
    const bool pipeline = queue == Queue::kPipelineForward || queue == Queue::kPipelineBackward;
    return std::make_unique<NcclCommunicator>(host_.group(ranks, queue, std::move(name)), pipeline, env_);
  }
  void set_position(std::int64_t step, const char* phase) override {
    host_.set_position(step, phase);
    watch_.set_position(step, phase);
  }
  void check() override {
    watch_.check();
    host_.check();
  }
  void abort(int exit_code) noexcept override { host_.abort(exit_code); }

 private:
  World& host_;
  Watch watch_;
  Environment env_;
  std::string transport_ = "nccl";
};

}  // namespace
}  // namespace nccl

std::unique_ptr<World> nccl_world(World& host, Device device, const WorldOptions& options) {
  return std::make_unique<nccl::NcclWorld>(host, device, options);
}

}  // namespace terroir

std::unique_ptr<terroir::World>* terroir_nccl_world(terroir::World& host, terroir::Device device,
                                                    const terroir::WorldOptions& options) {
  return new std::unique_ptr<terroir::World>(terroir::nccl_world(host, device, options));
}
