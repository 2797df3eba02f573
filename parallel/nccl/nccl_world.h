// Device tensors between GPUs through NCCL. Part of libterroir_cuda.so.
//
// Loading the module sets NCCL_RUNTIME_CONNECT=0 unless it is set: ranks connect as groups are made, not at
// an algorithm's first use, where hosts could wait for each other in a circle.
//
// Each group has an NCCL communicator with a stream of its own for collectives; each pair of neighbouring
// pipeline stages has one for each direction, so that a receive that waits never holds up a send. An
// operation starts after the work enqueued on the caller's stream before it, runs beside what is enqueued
// later, and Work::wait() makes the caller's stream, not the host, wait for it.
//
// A watching thread looks at every operation until it is complete. One that does not end within the timeout
// after its inputs were ready, or that NCCL reports an error for, ends all of them (ncclCommAbort): the
// host's next wait for the device returns, and World::check() throws TransportError with rank, step, which
// collective, which tensor.
//
// Who leaves ends its communicators without a word to the others, and what these still receive may pass
// through it. So ranks leave after they have met on the host with no operation on their way, as a run does
// that ends with saving a checkpoint.
#pragma once

#include <memory>

#include "kernels/tensor/view.h"
#include "parallel/world.h"

namespace terroir {

// Host tensors go over `host`, which must outlive it and over which communicators find each other. Collective
// calls to group() of more than one rank return when all members are connected, or throw after
// options.timeout_s. Sums are NCCL's: repeatable for one number and placement of ranks, not the bits of the
// host transports; a maximum of floats drops NaN.
std::unique_ptr<World> nccl_world(World& host, Device device, const WorldOptions& options);

}  // namespace terroir

// What the program looks up in the module.
extern "C" [[gnu::visibility("default")]] std::unique_ptr<terroir::World>* terroir_nccl_world(
    terroir::World& host, terroir::Device device, const terroir::WorldOptions& options);
