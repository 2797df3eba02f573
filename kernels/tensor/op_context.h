// What every op gets besides its tensors: where it runs, on which stream, with how many threads, and the
// caches of library objects that must outlive one call.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "kernels/tensor/view.h"

namespace terroir {

// The order of work on a device. On CUDA a cudaStream_t; on the CPU work runs inline, in the caller.
class Stream {
 public:
  explicit Stream(Device device = {}, void* native = nullptr) : device_(device), native_(native) {}
  Device device() const { return device_; }
  void* native() const { return native_; }

 private:
  Device device_;
  void* native_;
};

// Not thread-safe: one OpContext per rank and stream.
struct OpContext {
  Stream stream;
  int num_threads = 1;        // CPU: the fixed number of threads of parallel_for; part of bit-identity
  bool deterministic = true;  // false: ops whose contract says so may give other bits at every run

  // What an op keeps from call to call (packing buffers, cuBLASLt plans), created by the op that needs it:
  // ctx.cache<gemm::Scratch>() default-constructs it on first use.
  template <class Cache>
  Cache& cache() {
    std::shared_ptr<void>& slot = caches_[Cache::kName];
    if (!slot) slot = std::make_shared<Cache>();
    return *static_cast<Cache*>(slot.get());
  }

 private:
  std::map<std::string, std::shared_ptr<void>> caches_;
};

// The scalars that change from step to step. They live in device memory so that no kernel argument changes
// between steps and no host wait is needed: AdamW reads them on the device.
struct StepScalars {
  float learning_rate = 0;
  float bias_correction1 = 1;       // 1 - beta1^t
  float bias_correction2 = 1;       // 1 - beta2^t
  float grad_scale = 1;             // exact loss factor times clip coefficient
  std::uint32_t rounding_seed = 0;  // of stochastic rounding: another one in each step
  std::int32_t skip = 0;            // not 0: nothing is written
};

}  // namespace terroir
