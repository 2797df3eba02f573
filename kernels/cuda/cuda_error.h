// Errors of the CUDA runtime as SystemError with the call's name.
#pragma once

#include <cuda_runtime.h>

#include "base/error.h"

namespace terroir::cuda {

[[noreturn]] void fail(cudaError_t code, const char* call);

// Throws SystemError("<call>", "<name>: <text>") unless code is cudaSuccess.
inline void check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) fail(code, call);
}

}  // namespace terroir::cuda
