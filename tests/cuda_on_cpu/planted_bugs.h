// Kernels with one mistake each, and some without, for planted_bugs_test.cc.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace cuda_on_cpu {

// By name; each runs its kernel and returns what it computed.
const std::map<std::string, std::vector<int> (*)()>& planted_bugs();

}  // namespace cuda_on_cpu
