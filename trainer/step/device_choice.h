// Which device each rank computes on.
#pragma once

#include <memory>
#include <string>

#include "kernels/tensor/device.h"
#include "parallel/world.h"
#include "trainer/config/config.h"

namespace terroir {

struct DeviceChoice {
  Device device;
  std::string description;  // "cpu (auto: cannot load ...)", "cuda:0, NVIDIA H100 ... at 0000:1b:00.0"
};

// Resolves config.device and config.precision.compute, whose `auto` is then gone. On CUDA rank r of a machine
// takes device r modulo their number. `auto` takes CUDA where every rank can. Throws UserError (exit 2) when
// the configuration wants CUDA and a rank cannot use it, with the reason. Collective over the world.
DeviceChoice choose_device(Config& config, World& world);

// The same for a command of one process, with `wanted` from its option --device: the first GPU, or the CPU.
Device choose_device(const std::string& wanted);

// The world whose communicators take tensors of `device`, over config.parallel.transport: nothing on the CPU,
// where `host` does. Throws UserError (exit 2) when ranks would share a GPU under NCCL, with the ranks and
// the GPUs' addresses. `host` must outlive it. Collective over the world.
std::unique_ptr<World> device_world(const Config& config, World& host, Device device);

}  // namespace terroir
