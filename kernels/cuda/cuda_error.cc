#include "kernels/cuda/cuda_error.h"

namespace terroir::cuda {

void fail(cudaError_t code, const char* call) {
  cudaGetLastError();  // a launch error stays until somebody asks for it
  throw SystemError(call, fmt::format("{}: {}", cudaGetErrorName(code), cudaGetErrorString(code)));
}

}  // namespace terroir::cuda
