#include "parallel/staged_world.h"

#include <utility>

#include "parallel/staging_pool.h"

namespace terroir {
namespace {

bool same_memory(const ConstView& a, const ConstView& b) { return a.raw() == b.raw(); }

bool overlap(const ConstView& a, const ConstView& b) {
  const auto* begin_a = static_cast<const std::uint8_t*>(a.raw());
  const auto* begin_b = static_cast<const std::uint8_t*>(b.raw());
  return begin_a < begin_b + b.bytes() && begin_b < begin_a + a.bytes();
}

// An operation of the host transport whose result is then copied to the device.
class StagedOperation : public PendingOperation {
 public:
  // `host_result` lies in `block`; empty views: nothing comes back.
  StagedOperation(StagingPool::Block block, Work host, View host_result, View result, const Stream& stream)
      : block_(std::move(block)),
        host_(std::move(host)),
        host_result_(host_result),
        result_(result),
        stream_(stream) {}

  void wait() override {
    if (finished_) return;
    host_.wait();
    if (result_) {
      transfer(stream_, host_result_, result_);
      block_.last_use().record(stream_);
    }
    finished_ = true;
  }
  bool done() const override { return finished_ || host_.done(); }
  bool writes_to(const ConstView& tensor) const { return result_ && !finished_ && overlap(result_, tensor); }

 private:
  StagingPool::Block block_;  // outlives the host's work on it
  Work host_;
  View host_result_, result_;
  Stream stream_;
  bool finished_ = false;
};

class StagedCommunicator : public Communicator {
 public:
  StagedCommunicator(std::unique_ptr<Communicator> host, StagingPool& pool)
      : host_(std::move(host)), pool_(pool) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  const std::string& name() const override { return host_->name(); }

  Work all_reduce(View inout, ReduceOp op, const Stream& stream, std::string_view what) override {
    if (on_host(inout)) return host_->all_reduce(inout, op, stream, what);
    if (size() == 1) return {};
    StagingPool::Block block = pool_.take(inout.bytes());
    const View staged = fetch(inout, block.like(inout), stream);
    Work work = host_->all_reduce(staged, op, Stream(), what);
    return finish(std::move(block), std::move(work), staged, inout, stream);
  }

  Work all_gather(ConstView in, View out, const Stream& stream, std::string_view what) override {
    if (on_host(out)) return host_->all_gather(in, out, stream, what);
    if (size() == 1) return copy_if_elsewhere(in, out, stream);
    StagingPool::Block block = pool_.take(out.bytes());
    const View staged = block.like(out);
    const View part = my_part(staged);
    check_part(in, part);
    fetch(in, part, stream);
    Work work = host_->all_gather(part, staged, Stream(), what);
    return finish(std::move(block), std::move(work), staged, out, stream);
  }

  Work reduce_scatter(ConstView in, View out, const Stream& stream, std::string_view what) override {
    if (on_host(out)) return host_->reduce_scatter(in, out, stream, what);
    if (size() == 1) return copy_if_elsewhere(in, out, stream);
    StagingPool::Block block = pool_.take(in.bytes());
    const View staged = fetch(in, block.like(in), stream);
    const View part = my_part(staged);
    check_part(out, part);
    Work work = host_->reduce_scatter(staged, part, Stream(), what);
    return finish(std::move(block), std::move(work), part, out, stream);
  }

  Work broadcast(View inout, int root, const Stream& stream, std::string_view what) override {
    if (on_host(inout)) return host_->broadcast(inout, root, stream, what);
    if (size() == 1) return {};
    StagingPool::Block block = pool_.take(inout.bytes());
    View staged = block.like(inout);
    if (rank() == root) fetch(inout, staged, stream);
    Work work = host_->broadcast(staged, root, Stream(), what);
    return finish(std::move(block), std::move(work), staged, inout, stream);
  }

  Work all_to_all(ConstView in, View out, std::span<const std::int64_t> send_rows,
                  std::span<const std::int64_t> recv_rows, const Stream& stream,
                  std::string_view what) override {
    if (on_host(out)) return host_->all_to_all(in, out, send_rows, recv_rows, stream, what);
    // One block for both: the input's part begins where the output's, rounded up, ends.
    const std::int64_t out_bytes = (out.bytes() + 255) / 256 * 256;
    StagingPool::Block block = pool_.take(out_bytes + in.bytes());
    auto* memory = static_cast<std::uint8_t*>(block.bytes());
    const View staged_out = StagingPool::view_at(memory, out);
    const View staged_in = fetch(in, StagingPool::view_at(memory + out_bytes, in), stream);
    Work work = host_->all_to_all(staged_in, staged_out, send_rows, recv_rows, Stream(), what);
    return finish(std::move(block), std::move(work), staged_out, out, stream);
  }

  Work send(ConstView in, int peer, const Stream& stream, std::string_view what) override {
    if (on_host(in)) return host_->send(in, peer, stream, what);
    StagingPool::Block block = pool_.take(in.bytes());
    Work work = host_->send(fetch(in, block.like(in), stream), peer, Stream(), what);
    return finish(std::move(block), std::move(work), {}, {}, stream);
  }

  Work recv(View out, int peer, const Stream& stream, std::string_view what) override {
    if (on_host(out)) return host_->recv(out, peer, stream, what);
    StagingPool::Block block = pool_.take(out.bytes());
    const View staged = block.like(out);
    Work work = host_->recv(staged, peer, Stream(), what);
    return finish(std::move(block), std::move(work), staged, out, stream);
  }

 private:
  static bool on_host(const ConstView& view) { return view.device().kind == DeviceKind::kCpu; }

  View my_part(View whole) const {
    const Range part = split_range(whole.size(0), size(), rank());
    return whole.slice(0, part.begin, part.end);
  }

  static void check_part(const ConstView& part, const ConstView& wanted) {
    TERROIR_CHECK(part.same_shape(wanted) && part.dtype() == wanted.dtype(), "{} is this rank's part, not {}",
                  wanted.describe(), part.describe());
  }

  // The host's copy of `in`, in memory when this returns: with the results of earlier operations on it.
  View fetch(ConstView in, View staged, const Stream& stream) {
    std::erase_if(pending_, [](const auto& operation) { return operation.expired(); });
    for (const auto& pending : pending_)
      if (const auto operation = pending.lock(); operation && operation->writes_to(in)) operation->wait();
    transfer(stream, in, staged);
    synchronize(stream);
    return staged;
  }

  static Work copy_if_elsewhere(ConstView in, View out, const Stream& stream) {
    if (!same_memory(in, out)) transfer(stream, in, out);
    return {};
  }

  Work finish(StagingPool::Block block, Work host, View host_result, View result, const Stream& stream) {
    auto operation =
        std::make_shared<StagedOperation>(std::move(block), std::move(host), host_result, result, stream);
    pending_.push_back(operation);
    return Work(std::move(operation));
  }

  std::unique_ptr<Communicator> host_;
  StagingPool& pool_;
  std::vector<std::weak_ptr<StagedOperation>> pending_;
};

class StagedWorld : public World {
 public:
  StagedWorld(World& host, Device device)
      : host_(host), pool_(device), transport_(host.transport() + ", staged") {}

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  int local_rank() const override { return host_.local_rank(); }
  int local_size() const override { return host_.local_size(); }
  const std::string& transport() const override { return transport_; }
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks, Queue queue, std::string name) override {
    return std::make_unique<StagedCommunicator>(host_.group(ranks, queue, std::move(name)), pool_);
  }
  void set_position(std::int64_t step, const char* phase) override { host_.set_position(step, phase); }
  void check() override { host_.check(); }
  void abort(int exit_code) noexcept override { host_.abort(exit_code); }

 private:
  World& host_;
  StagingPool pool_;
  std::string transport_;
};

}  // namespace

std::unique_ptr<World> staged_world(World& host, Device device) {
  return std::make_unique<StagedWorld>(host, device);
}

}  // namespace terroir
