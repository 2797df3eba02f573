// Runs one test body on every world of a transport. Two definitions: threads_worlds.cc (1 to 4 ranks in this
// process) and mpi_worlds.cc (the ranks that mpirun started), so that one test source covers all transports.
#pragma once

#include <functional>

#include "parallel/world.h"

namespace terroir::test {

// Short messages that end anywhere in an element, and reductions in several segments: everything that is
// split, is.
inline constexpr MessageLimits kTinyLimits = {
    .message_bytes = 1001, .segment_bytes = 4096, .small_bytes = 40};

// Calls body(world) on every rank of every world: all sizes with default and with tiny limits.
void on_every_world(const std::function<void(World&)>& body);

inline std::vector<int> all_ranks(const World& world) {
  std::vector<int> ranks;
  for (int rank = 0; rank < world.size(); ++rank) ranks.push_back(rank);
  return ranks;
}

}  // namespace terroir::test
