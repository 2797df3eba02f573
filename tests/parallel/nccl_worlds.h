#pragma once

#include <memory>

#include "parallel/world.h"

namespace terroir::test {

// nccl_world() of the loaded CUDA module.
std::unique_ptr<World> nccl_world_of_module(World& host, Device device, const WorldOptions& options);

}  // namespace terroir::test
