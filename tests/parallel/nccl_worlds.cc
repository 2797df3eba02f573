// Worlds of threads, each with an emulated GPU of its own, whose device tensors go through the emulated NCCL.
#include <gtest/gtest.h>

#include "kernels/tensor/cuda_module.h"
#include "tests/parallel/device_tensors.h"
#include "tests/parallel/nccl_gpus.h"
#include "tests/parallel/worlds.h"

namespace terroir::test {

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
