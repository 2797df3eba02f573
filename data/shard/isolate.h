// Runs code that a hostile file can crash where the crash does no harm.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace terroir {

struct IsolationLimits {
  std::uint64_t memory_bytes = std::uint64_t{1} << 30;  // address space on top of what the process has now
  std::uint64_t cpu_seconds = 60;
};

// Runs `body` in a forked child under the limits and returns the text it returns. An Error thrown there is
// thrown here, with the same kind, line and exit code. A child that crashes, runs out of memory or of time
// becomes a UserError (exit 3) "FILE: rejected: ...". Nothing else that `body` does reaches this process.
// REQUIRES: no other thread of this process uses HDF5 meanwhile.
std::string run_isolated(const std::string& file, const IsolationLimits& limits,
                         const std::function<std::string()>& body);

}  // namespace terroir
