// Whether a run fits, said before it starts.
#pragma once

#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "trainer/config/config.h"
#include "trainer/model/stage_model.h"

namespace terroir {

struct MemoryPlan {
  StageMemory mine;   // this rank
  std::string table;  // all ranks, for people
  // On rank 0, for people: who computes attention, and why; a line for each set of ranks that differ in that.
  std::vector<std::string> attention;
};
// Plans every rank. Throws UserError (exit 2) when the ranks that share this rank's memory, a machine's or a
// GPU's, need more than is available, with what is needed, what there is and the largest parts; and when
// attention cannot be computed as train.attention asks. Collective over the mesh.
MemoryPlan plan_memory(const Config& config, Mesh& mesh, OpContext& ctx);

// Bytes this process holds in memory now.
std::int64_t resident_bytes();

}  // namespace terroir
