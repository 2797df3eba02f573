// What a run ran on, for environment.json and for whoever compares two runs.
#pragma once

#include "base/json.h"
#include "parallel/mesh.h"

namespace terroir {

// Program version, compiler, processor, host, device, layout, threads and the versions of numerical
// libraries.
OrderedJson describe_environment(const Mesh& mesh, const std::string& device, int threads_per_rank);

}  // namespace terroir
