// Worlds of threads, each with an emulated GPU of its own, whose device tensors go through the emulated NCCL.
#include "tests/parallel/nccl_worlds.h"

#include <gtest/gtest.h>

#include "kernels/tensor/cuda_module.h"
#include "tests/parallel/device_tensors.h"
#include "tests/parallel/worlds.h"

namespace terroir::test {

std::unique_ptr<World> nccl_world_of_module(World& host, Device device, const WorldOptions& options) {
  using Make = std::unique_ptr<World>* (*)(World&, Device, const WorldOptions&);
  const auto make = reinterpret_cast<Make>(cuda_module_symbol("terroir_nccl_world"));
  TERROIR_CHECK(make != nullptr, "the CUDA module has no NCCL");
  const std::unique_ptr<std::unique_ptr<World>> made(make(host, device, options));
  return std::move(*made);
}

void on_every_world(const std::function<void(World&)>& body) {
  load_cuda_module();
  for (int size = 1; size <= 4; ++size) {
    SCOPED_TRACE(fmt::format("{} GPUs", size));
    run_threads(size, {.timeout_s = 60}, [&](World& host) {
      const Device device{DeviceKind::kCuda, host.rank()};
      const auto nccl = nccl_world_of_module(host, device, {.timeout_s = 60});
      const auto world = through_device(*nccl, device);
      body(*world);
    });
  }
}

}  // namespace terroir::test
