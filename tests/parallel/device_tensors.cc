#include "tests/parallel/device_tensors.h"

#include <list>

#include "kernels/tensor/buffer.h"
#include "kernels/tensor/device.h"
#include "tests/parallel/forwarding_world.h"

namespace terroir::test {
namespace {

// A stretch of host memory and its copy on the device, while operations use it.
struct Mirror {
  Mirror(const void* data, std::int64_t bytes, Device device)
      : host(static_cast<const std::uint8_t*>(data)), bytes(bytes), copy(bytes, device) {}
  bool contains(const ConstView& view) const {
    const auto* begin = static_cast<const std::uint8_t*>(view.raw());
    return begin >= host && begin + view.bytes() <= host + bytes;
  }
  const std::uint8_t* host;
  std::int64_t bytes;
  Buffer copy;
};
using MirrorPointer = std::shared_ptr<Mirror>;

class MirroredOperation : public PendingOperation {
 public:
  MirroredOperation(Work work, std::vector<MirrorPointer> mirrors, ConstView device_result, View host_result,
                    const Stream& stream)
      : work_(std::move(work)),
        mirrors_(std::move(mirrors)),
        device_result_(device_result),
        host_result_(host_result),
        stream_(stream) {}
  void wait() override {
    work_.wait();
    if (host_result_) transfer(stream_, device_result_, host_result_);
    synchronize(stream_);
  }
  bool done() const override { return work_.done(); }

 private:
  Work work_;
  std::vector<MirrorPointer> mirrors_;
  ConstView device_result_;
  View host_result_;
  Stream stream_;
};

class ThroughDevice : public Communicator {
 public:
  ThroughDevice(std::unique_ptr<Communicator> inner, const Stream& stream)
      : inner_(std::move(inner)), stream_(stream) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const std::string& name() const override { return inner_->name(); }

  Work all_reduce(View inout, ReduceOp op, const Stream&, std::string_view what) override {
    Operands operands(*this);
    const View x = operands.at(inout);
    return operands.finish(inner_->all_reduce(x, op, stream_, what), x, inout);
  }
  Work all_gather(ConstView in, View out, const Stream&, std::string_view what) override {
    Operands operands(*this);
    const View to = operands.at(out), from = operands.at(in);
    return operands.finish(inner_->all_gather(from, to, stream_, what), to, out);
  }
  Work reduce_scatter(ConstView in, View out, const Stream&, std::string_view what) override {
    Operands operands(*this);
    const View from = operands.at(in), to = operands.at(out);
    return operands.finish(inner_->reduce_scatter(from, to, stream_, what), to, out);
  }
  Work broadcast(View inout, int root, const Stream&, std::string_view what) override {
    Operands operands(*this);
    const View x = operands.at(inout);
    return operands.finish(inner_->broadcast(x, root, stream_, what), x, inout);
  }
  Work all_to_all(ConstView in, View out, std::span<const std::int64_t> send_rows,
                  std::span<const std::int64_t> recv_rows, const Stream&, std::string_view what) override {
    Operands operands(*this);
    const View from = operands.at(in), to = operands.at(out);
    return operands.finish(inner_->all_to_all(from, to, send_rows, recv_rows, stream_, what), to, out);
  }
  Work send(ConstView in, int peer, const Stream&, std::string_view what) override {
    Operands operands(*this);
    return operands.finish(inner_->send(operands.at(in), peer, stream_, what), {}, {});
  }
  Work recv(View out, int peer, const Stream&, std::string_view what) override {
    Operands operands(*this);
    const View to = operands.at(out);
    return operands.finish(inner_->recv(to, peer, stream_, what), to, out);
  }

 private:
  // The operands of one call. Those that share host memory share device memory.
  class Operands {
   public:
    explicit Operands(ThroughDevice& self) : self_(self) {}
    View at(const ConstView& host) {
      TERROIR_CHECK(host.is_contiguous(), "{} is not contiguous", host.describe());
      const MirrorPointer mirror = self_.mirror(host);
      used_.push_back(mirror);
      const auto offset = static_cast<const std::uint8_t*>(host.raw()) - mirror->host;
      const std::int64_t begin = host.numel() == 0 ? 0 : offset;
      return mirror->copy.view(host.dtype(), {host.numel()}, begin).reshape_like(host);
    }
    Work finish(Work work, ConstView device_result, View host_result) {
      return Work(std::make_shared<MirroredOperation>(std::move(work), std::move(used_), device_result,
                                                      host_result, self_.stream_));
    }

   private:
    ThroughDevice& self_;
    std::vector<MirrorPointer> used_;
  };

  // What an operation on its way has of this memory, or a fresh copy.
  MirrorPointer mirror(const ConstView& host) {
    std::erase_if(mirrors_, [](const auto& mirror) { return mirror.expired(); });
    for (const auto& known : mirrors_)
      if (MirrorPointer mirror = known.lock(); mirror && host.numel() > 0 && mirror->contains(host))
        return mirror;
    auto made = std::make_shared<Mirror>(host.raw(), host.bytes(), stream_.device());
    if (host.numel() > 0)
      transfer(stream_, ConstView(host.raw(), DType::kU8, {host.bytes()}),
               made->copy.view(DType::kU8, {host.bytes()}));
    mirrors_.push_back(made);
    return made;
  }

  std::unique_ptr<Communicator> inner_;
  Stream stream_;
  std::list<std::weak_ptr<Mirror>> mirrors_;
};

class ThroughDeviceWorld : public ForwardingWorld {
 public:
  ThroughDeviceWorld(World& world, Device device) : ForwardingWorld(world), stream_(device) {}
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks, Queue queue, std::string name) override {
    return std::make_unique<ThroughDevice>(world_.group(ranks, queue, std::move(name)), stream_);
  }

 private:
  OwnedStream stream_;
};

}  // namespace

std::unique_ptr<World> through_device(World& world, Device device) {
  return std::make_unique<ThroughDeviceWorld>(world, device);
}

}  // namespace terroir::test
