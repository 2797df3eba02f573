#include "tests/parallel/nccl_gpus.h"

#include <chrono>
#include <numeric>

#include "kernels/tensor/cuda_module.h"
#include "tests/parallel/worlds.h"

namespace terroir::test {

std::unique_ptr<World> nccl_world_of_module(World& host, Device device, const WorldOptions& options) {
  using Make = std::unique_ptr<World>* (*)(World&, Device, const WorldOptions&);
  const auto make = reinterpret_cast<Make>(cuda_module_symbol("terroir_nccl_world"));
  TERROIR_CHECK(make != nullptr, "the CUDA module has no NCCL");
  const std::unique_ptr<std::unique_ptr<World>> made(make(host, device, options));
  return std::move(*made);
}

std::unique_ptr<Communicator> Gpu::group(Queue queue, std::string name) {
  return world.group(all_ranks(world), queue, std::move(name));
}

void Gpu::barrier() { host.group(all_ranks(host), Queue::kControl, "barrier")->barrier(Stream(), "barrier"); }

std::vector<float> Gpu::read(const View& view) {
  const Buffer pinned = Buffer::pinned(view.bytes(), ctx.stream.device());
  const View copy = pinned.view(DType::kF32, {view.numel()});
  transfer(ctx.stream, view, copy);
  finish();
  return {copy.data<float>(), copy.data<float>() + copy.numel()};
}

void Gpu::finish() {
  synchronize(ctx.stream);
  world.check();
}

std::vector<Outcome> on_gpus(int num_ranks, double timeout_s, const std::function<void(Gpu&)>& body,
                             const std::function<int(int)>& on_device) {
  load_cuda_module();
  std::vector<Outcome> outcomes(static_cast<std::size_t>(num_ranks));
  try {
    run_threads(num_ranks, {.timeout_s = 60}, [&](World& host) {
      const auto start = std::chrono::steady_clock::now();
      Outcome& outcome = outcomes[static_cast<std::size_t>(host.rank())];
      try {
        const Device device{DeviceKind::kCuda, on_device(host.rank())};
        const OwnedStream stream(device);
        const auto world = nccl_world_of_module(host, device, {.timeout_s = timeout_s});
        Gpu gpu{host, *world, {}};
        gpu.ctx.stream = stream;
        body(gpu);
      } catch (const std::exception& error) {
        outcome.error = error.what();
        outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        throw;
      }
    });
  } catch (const std::exception&) {  // each rank's is in `outcomes`
  }
  return outcomes;
}

}  // namespace terroir::test
