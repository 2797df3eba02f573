// Devices and errors.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/cuda_on_cpu/runtime.h"

namespace cuda_on_cpu {

std::recursive_mutex runtime_mutex;
HostCounts host_counts;
thread_local int current_device = 0;

namespace {

constexpr std::size_t kDeviceBytes = std::size_t{8} << 30;
constexpr int kMultiprocessors = 4;  // few: grids of several waves are tested with little work
constexpr int kThreadsPerMultiprocessor = 2048;
constexpr std::size_t kSharedPerMultiprocessor = 228 << 10, kReservedShared = 1 << 10;

thread_local cudaError_t last_error = cudaSuccess;
cudaError_t sticky_error = cudaSuccess;
std::string failure = "unspecified launch failure";

bool is_device(int device) { return device >= 0 && device < num_devices(); }

}  // namespace

int num_devices() {
  const char* count = std::getenv("TERROIR_EMULATED_GPUS");
  return count == nullptr ? 1 : std::atoi(count);
}

cudaError_t report(cudaError_t code) {
  if (code != cudaSuccess && code != cudaErrorNotReady) last_error = code;
  return code;
}
void lose_device(const std::string& reason) {
  if (sticky_error != cudaSuccess) return;
  failure = reason;
  sticky_error = cudaErrorLaunchFailure;
}
bool device_is_lost() { return sticky_error != cudaSuccess; }
cudaError_t device_status() { return report(sticky_error); }

std::string take_failure() {
  const Lock lock(runtime_mutex);
  if (sticky_error == cudaSuccess) return "";
  sticky_error = last_error = cudaSuccess;
  return failure;
}

int resident_blocks(int threads, std::size_t shared_bytes) {
  const auto by_threads = static_cast<std::size_t>(kThreadsPerMultiprocessor / threads);
  return static_cast<int>(std::min(by_threads, kSharedPerMultiprocessor / (shared_bytes + kReservedShared)));
}

}  // namespace cuda_on_cpu

using namespace cuda_on_cpu;

HostCounts* cuda_on_cpu_host_counts() { return &host_counts; }

const char* cudaGetErrorName(cudaError_t code) {
  switch (code) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
  }
  return "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t code) {
  return code == cudaErrorLaunchFailure ? failure.c_str() : cudaGetErrorName(code);
}
cudaError_t cudaPeekAtLastError() { return last_error; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = num_devices();
  return report(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (!is_device(device)) return report(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (!is_device(device)) return report(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "emulated GPU");
  properties->uuid.bytes[15] = static_cast<char>(device + 1);
  properties->totalGlobalMem = kDeviceBytes;
  properties->sharedMemPerBlock = kDefaultShared;
  properties->sharedMemPerBlockOptin = kMaxShared;
  properties->sharedMemPerMultiprocessor = kSharedPerMultiprocessor;
  properties->major = 9;
  properties->multiProcessorCount = kMultiprocessors;
  properties->warpSize = kWarpSize;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = kThreadsPerMultiprocessor;
  properties->pciBusID = device + 1;
  properties->l2CacheSize = 50 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (const cudaError_t code = cudaGetDeviceProperties(&properties, device); code != cudaSuccess) return code;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = properties.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      break;
    case cudaDevAttrWarpSize:
      *value = properties.warpSize;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = properties.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(properties.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      break;
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  if (!is_device(device)) return report(cudaErrorInvalidDevice);
  std::snprintf(text, static_cast<std::size_t>(length), "0000:%02x:00.0", device + 1);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const Lock lock(runtime_mutex);
  *total = kDeviceBytes;
  *free = kDeviceBytes - std::min(kDeviceBytes, bytes_used(current_device));
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  const Lock lock(runtime_mutex);
  ++host_counts.waits;
  wait_for_device(current_device);
  return device_status();
}
