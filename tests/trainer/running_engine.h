// A rank's engine with all it stands on, its weights as initialized.
#pragma once

#include "kernels/tensor/device.h"
#include "trainer/step/device_choice.h"
#include "trainer/step/engine.h"

namespace terroir::test {

// On the device and over the transport that the configuration names (cuda: its module is loaded). Collective.
struct RunningEngine {
  RunningEngine(const Config& config, World& host)
      : device(device_of(config, host)),
        between_devices(device_world(config, host, device)),
        mesh(between_devices ? *between_devices : host,
             MeshShape::with_data_filled(host.size(), config.parallel.tensor, config.parallel.context,
                                         config.parallel.pipeline)),
        stream(device),
        ctx(context_on(stream)),
        engine(config, mesh, ctx, {}, 1) {
    engine.initialize();
    engine.synchronize();
  }
  static OpContext context_on(const Stream& stream) {
    OpContext ctx;
    ctx.stream = stream;
    return ctx;
  }
  // Under NCCL each rank has a GPU of its own.
  static Device device_of(const Config& config, const World& world) {
    if (config.device != "cuda") return {};
    return {DeviceKind::kCuda, config.parallel.transport == "nccl" ? world.local_rank() : 0};
  }

  Device device;
  std::unique_ptr<World> between_devices;
  Mesh mesh;
  OwnedStream stream;
  OpContext ctx;
  Engine engine;
};

}  // namespace terroir::test
