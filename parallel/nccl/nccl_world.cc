#include "parallel/nccl/nccl_world.h"

#include "parallel/nccl/nccl_communicator.h"

namespace terroir {
namespace nccl {
namespace {

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
    return nccl_communicator(host_.group(ranks, queue, std::move(name)), pipeline, env_);
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
