#include "kernels/cuda/runtime.h"

#include <array>

#include "kernels/cuda/cuda_error.h"

namespace terroir::cuda {
namespace {

cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t as_event(void* event) { return static_cast<cudaEvent_t>(event); }

// The calling thread's device, given back at the end: an allocation must not redirect a thread's kernels.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    check(cudaSetDevice(device), "cudaSetDevice");
  }
  ~OnDevice() { cudaSetDevice(before_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
};

std::string gib(std::int64_t bytes) {
  return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (1 << 30));
}

}  // namespace

int Runtime::num_devices() {
  int count = 0;
  check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  return count;
}

DeviceInfo Runtime::info(int device) {
  const OnDevice here(device);
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  std::array<char, 32> address{};
  check(cudaDeviceGetPCIBusId(address.data(), static_cast<int>(address.size()), device),
        "cudaDeviceGetPCIBusId");
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return {.name = properties.name,
          .address = address.data(),
          .total_bytes = static_cast<std::int64_t>(total),
          .free_bytes = static_cast<std::int64_t>(free),
          .compute_capability = properties.major * 10 + properties.minor};
}

void Runtime::make_current(int device) { check(cudaSetDevice(device), "cudaSetDevice"); }

void* Runtime::allocate(int device, std::int64_t bytes) {
  const OnDevice here(device);
  void* memory = nullptr;
  const cudaError_t code = cudaMalloc(&memory, static_cast<std::size_t>(bytes));
  if (code == cudaErrorMemoryAllocation) {
    std::size_t free = 0, total = 0;
    cudaGetLastError();
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    throw SystemError("cudaMalloc", fmt::format("{} on device {}, which has {} of {} free", gib(bytes),
                                                device, gib(static_cast<std::int64_t>(free)),
                                                gib(static_cast<std::int64_t>(total))));
  }
  check(code, "cudaMalloc");
  // On a stream of its own, and complete on return: whoever gets the memory may use it on any stream.
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  cudaError_t cleared = cudaMemsetAsync(memory, 0, static_cast<std::size_t>(bytes), stream);
  if (cleared == cudaSuccess) cleared = cudaStreamSynchronize(stream);
  cudaStreamDestroy(stream);
  check(cleared, "cudaMemsetAsync");
  return memory;
}

void Runtime::free(int, void* memory) noexcept { cudaFree(memory); }

void* Runtime::allocate_pinned(std::int64_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, static_cast<std::size_t>(bytes)), "cudaMallocHost");
  return memory;
}
void Runtime::free_pinned(void* memory) noexcept { cudaFreeHost(memory); }

void* Runtime::create_stream(int device) {
  const OnDevice here(device);
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return stream;
}
void Runtime::destroy_stream(void* stream) noexcept { cudaStreamDestroy(as_stream(stream)); }
void Runtime::synchronize_stream(void* stream) {
  check(cudaStreamSynchronize(as_stream(stream)), "cudaStreamSynchronize");
}

void* Runtime::create_event(int device, bool timed) {
  const OnDevice here(device);
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, timed ? cudaEventDefault : cudaEventDisableTiming),
        "cudaEventCreateWithFlags");
  return event;
}
void Runtime::destroy_event(void* event) noexcept { cudaEventDestroy(as_event(event)); }
void Runtime::record_event(void* event, void* stream) {
  check(cudaEventRecord(as_event(event), as_stream(stream)), "cudaEventRecord");
}
void Runtime::stream_wait_event(void* stream, void* event) {
  check(cudaStreamWaitEvent(as_stream(stream), as_event(event), 0), "cudaStreamWaitEvent");
}
bool Runtime::event_done(void* event) {
  const cudaError_t code = cudaEventQuery(as_event(event));
  if (code == cudaErrorNotReady) return false;
  check(code, "cudaEventQuery");
  return true;
}
void Runtime::synchronize_event(void* event) {
  check(cudaEventSynchronize(as_event(event)), "cudaEventSynchronize");
}
double Runtime::elapsed_s(void* begin, void* end) {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, as_event(begin), as_event(end)), "cudaEventElapsedTime");
  return milliseconds * 1e-3;
}

void Runtime::transfer(void* to, bool to_device, const void* from, bool from_device, std::int64_t bytes,
                       void* stream) {
  const cudaMemcpyKind kind = to_device ? (from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
                                        : (from_device ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), kind, as_stream(stream)),
        "cudaMemcpyAsync");
}

}  // namespace terroir::cuda
