// What hosts have asked of the emulated runtime that holds them up, for tests:
// cuda_module_symbol("cuda_on_cpu_host_counts").
#pragma once

#include <atomic>

namespace cuda_on_cpu {

struct HostCounts {
  std::atomic<int> waits{0};        // for a stream or a device; for an event that is not complete
  std::atomic<int> allocations{0};  // of device and page-locked memory
};

}  // namespace cuda_on_cpu

extern "C" [[gnu::visibility("default")]] cuda_on_cpu::HostCounts* cuda_on_cpu_host_counts();
