// What the stand-in for cuDNN has done in this process, for tests. A program that loaded the emulated module
// reaches it by cuda_module_symbol("terroir_plain_cudnn_counts").
#pragma once

#include <atomic>

namespace terroir::cuda {

struct PlainCudnnCounts {
  std::atomic<int> graphs{0};            // made
  std::atomic<int> dense{0}, packed{0};  // forwards and backwards of rows, of packed documents
  std::atomic<int> backwards{0};         // of both
  std::atomic<int> in_any_order{0};      // backwards that need not be deterministic
};

}  // namespace terroir::cuda

extern "C" [[gnu::visibility("default")]] terroir::cuda::PlainCudnnCounts* terroir_plain_cudnn_counts();
