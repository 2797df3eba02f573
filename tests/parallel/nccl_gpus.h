// Ranks that are threads with a GPU each, for tests that look at streams and failures of the NCCL transport.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/tensor/buffer.h"
#include "kernels/tensor/device.h"
#include "parallel/world.h"

namespace terroir::test {

// nccl_world() of the loaded CUDA module.
std::unique_ptr<World> nccl_world_of_module(World& host, Device device, const WorldOptions& options);

// One rank, with a stream that it computes on and the two worlds.
struct Gpu {
  World& host;
  World& world;  // NCCL's
  OpContext ctx;
  std::unique_ptr<Communicator> group(Queue queue = Queue::kData, std::string name = "data");
  // All ranks are here. Over the host's transport.
  void barrier();
  Buffer buffer(std::int64_t floats) { return Buffer(floats * 4, ctx.stream.device()); }
  // The host waits; what is then in device memory.
  std::vector<float> read(const View& view);
  // The host waits for the device as the trainer does, and hears what has gone wrong.
  void finish();
};

struct Outcome {
  std::string error = "no error";
  double seconds = 0;
};
// Runs `body` on every rank; the outcome of each. NCCL's operations time out after `timeout_s`, the host's
// after a minute. on_device(rank): which GPU a rank has.
std::vector<Outcome> on_gpus(
    int num_ranks, double timeout_s, const std::function<void(Gpu&)>& body,
    const std::function<int(int)>& on_device = [](int rank) { return rank; });

}  // namespace terroir::test
