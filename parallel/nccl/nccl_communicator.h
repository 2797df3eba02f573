// The group of ranks whose device tensors go through NCCL.
#pragma once

#include <memory>

#include "parallel/nccl/watch.h"

namespace terroir::nccl {

struct Environment {
  Device device;
  double timeout_s;
  Watch& watch;
};

// For the members of `host`, over which they find each other and which carries host tensors. `pipeline`:
// neighbours are connected now, in both directions; other pairs at their first message, where each host waits
// for the other. Collective over the group.
std::unique_ptr<Communicator> nccl_communicator(std::unique_ptr<Communicator> host, bool pipeline,
                                                const Environment& env);

}  // namespace terroir::nccl
