// Device tensors over a host transport: every operation goes through page-locked host memory. Slow, and works
// wherever the host transport does: several ranks may share one GPU.
#pragma once

#include <memory>

#include "kernels/tensor/view.h"
#include "parallel/world.h"

namespace terroir {

// A world of the same ranks whose communicators take host tensors, as those of `host` do, and tensors of
// `device`. On a device tensor the host waits, when an operation starts, for the work that produces its
// input; Work::wait() waits for the transport, and enqueues the copy of the result to the device on the
// operation's stream. Results are the same bits as on the host. `host` must outlive it. Memory for staging is
// taken at the first operation of a size and kept.
std::unique_ptr<World> staged_world(World& host, Device device);

}  // namespace terroir
