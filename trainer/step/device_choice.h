// Which device each rank computes on.
#pragma once

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

}  // namespace terroir
