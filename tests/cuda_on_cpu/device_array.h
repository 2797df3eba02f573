// Arrays and launches for the emulation's own tests.
#pragma once

#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/cuda/device.cuh"
#include "tests/cuda_on_cpu/emulator.h"

namespace cuda_on_cpu {

class TestStream {
 public:
  TestStream() {
    terroir::cuda::check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  }
  ~TestStream() { cudaStreamDestroy(stream_); }
  TestStream(const TestStream&) = delete;
  TestStream& operator=(const TestStream&) = delete;
  operator cudaStream_t() const { return stream_; }
  void synchronize() const { terroir::cuda::check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

 private:
  cudaStream_t stream_ = nullptr;
};

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count) : count_(count) {
    terroir::cuda::check(cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T)), "cudaMalloc");
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice);
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  std::size_t bytes() const { return count_ * sizeof(T); }
  // As it is now: waits for no stream.
  std::vector<T> values() const {
    std::vector<T> host(count_);
    cudaMemcpy(host.data(), data_, bytes(), cudaMemcpyDeviceToHost);
    return host;
  }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

// Runs the kernel to its end. Throws SystemError with what the emulation found.
template <class... Parameters, class... Arguments>
void run_kernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
                const Arguments&... arguments) {
  const TestStream stream;
  if (shared_bytes > 48 << 10) terroir::cuda::allow_shared_memory(kernel, shared_bytes);
  terroir::cuda::launch(kernel, grid, block, shared_bytes, stream, arguments...);
  stream.synchronize();
}

// What the emulation finds in the kernel; empty if nothing.
template <class... Arguments>
std::string error_of_kernel(const Arguments&... arguments) {
  try {
    run_kernel(arguments...);
  } catch (const std::exception& error) {
    take_failure();
    return error.what();
  }
  return "";
}

class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~ScopedVariable() { unsetenv(name_); }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;

 private:
  const char* name_;
};

}  // namespace cuda_on_cpu
