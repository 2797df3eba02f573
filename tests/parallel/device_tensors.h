// Runs tests written for host tensors over a world whose communicators take tensors of a device: every
// operand is copied to the device, and results back when the operation is waited for.
#pragma once

#include <memory>

#include "kernels/tensor/view.h"
#include "parallel/world.h"

namespace terroir::test {

// `world` takes tensors of `device`; the result takes host tensors, and hands only device tensors to `world`.
// `world` must outlive it.
std::unique_ptr<World> through_device(World& world, Device device);

}  // namespace terroir::test
