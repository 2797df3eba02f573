// Memory of devices and page-locked memory, and copies.
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "tests/cuda_on_cpu/runtime.h"

namespace cuda_on_cpu {
namespace {

std::map<const char*, Allocation> allocations;

// A block of the heap of just this size, so that AddressSanitizer sees its ends; 0xff: what is read before it
// is written shows. 256: what cudaMalloc aligns to.
cudaError_t allocate(void** memory, std::size_t bytes, int device) {
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (posix_memalign(memory, 256, bytes) != 0) return report(cudaErrorMemoryAllocation);
  std::memset(*memory, 0xFF, bytes);
  allocations[static_cast<const char*>(*memory)] = {bytes, device};
  return cudaSuccess;
}

cudaError_t release(void* memory, bool pinned) {
  const Lock lock(runtime_mutex);
  if (memory == nullptr) return cudaSuccess;
  const auto found = allocations.find(static_cast<const char*>(memory));
  if (found == allocations.end() || (found->second.device == kPinned) != pinned)
    return report(cudaErrorInvalidValue);
  wait_for_device(pinned ? current_device : found->second.device);  // as the real ones do
  allocations.erase(found);
  std::free(memory);
  return device_status();
}

enum class Kind { kDevice, kPinned, kPageable };
Kind kind_of(const void* memory, std::size_t bytes) {
  const Allocation* found = find(memory, bytes);
  if (found == nullptr) return Kind::kPageable;
  return found->device == kPinned ? Kind::kPinned : Kind::kDevice;
}

struct Sides {
  Kind to, from;
  bool on_host() const { return to != Kind::kDevice && from != Kind::kDevice; }
};
// Whether the copy is of the kind that the caller says. A range that leaves its allocation counts as
// pageable: where the caller means the device's memory, it is refused.
bool agrees(cudaMemcpyKind kind, const Sides& sides) {
  if (kind == cudaMemcpyDefault) return true;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return to_device == (sides.to == Kind::kDevice) && from_device == (sides.from == Kind::kDevice);
}

// Rows of `width` bytes; a plain copy is one row.
struct Copy {
  char* to;
  std::size_t to_pitch;
  const char* from;
  std::size_t from_pitch;
  std::size_t width, height;

  std::size_t to_extent() const { return (height - 1) * to_pitch + width; }
  std::size_t from_extent() const { return (height - 1) * from_pitch + width; }
  void run() const {
    for (std::size_t row = 0; row < height; ++row)
      std::memmove(to + row * to_pitch, from + row * from_pitch, width);
  }
};

cudaError_t enqueue(Copy copy, cudaMemcpyKind kind, StreamQueue* stream) {
  const Lock lock(runtime_mutex);
  if (copy.width == 0 || copy.height == 0) return is_stream(stream) ? cudaSuccess : put(stream, {});
  const Sides sides = {kind_of(copy.to, copy.to_extent()), kind_of(copy.from, copy.from_extent())};
  if (!agrees(kind, sides)) return report(cudaErrorInvalidValue);
  std::string staged;
  if (sides.from == Kind::kPageable && sides.to == Kind::kDevice) {
    // Read now, as the driver does into its own page-locked memory.
    staged.assign(copy.from, copy.from_extent());
  }
  const bool is_staged = !staged.empty();
  const cudaError_t code = put(stream, {.work = [copy, is_staged, staged = std::move(staged)]() mutable {
                                 if (is_staged) copy.from = staged.data();
                                 copy.run();
                               }});
  // Into pageable memory, and between two places of the host, it is complete on return.
  if (code == cudaSuccess && (sides.to == Kind::kPageable || sides.on_host())) return wait_for(*stream);
  return code;
}

}  // namespace

const Allocation* find(const void* memory, std::size_t bytes) {
  const char* begin = static_cast<const char*>(memory);
  auto after = allocations.upper_bound(begin);
  if (after == allocations.begin()) return nullptr;
  --after;
  return begin + bytes <= after->first + after->second.bytes ? &after->second : nullptr;
}

std::size_t bytes_used(int device) {
  std::size_t bytes = 0;
  for (const auto& [memory, allocation] : allocations)
    if (allocation.device == device) bytes += allocation.bytes;
  return bytes;
}

}  // namespace cuda_on_cpu

using namespace cuda_on_cpu;

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  const Lock lock(runtime_mutex);
  std::size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  if (bytes > free) return report(cudaErrorMemoryAllocation);
  ++host_counts.allocations;
  return allocate(memory, bytes, current_device);
}
cudaError_t cudaFree(void* memory) { return release(memory, false); }
cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) {
  const Lock lock(runtime_mutex);
  ++host_counts.allocations;
  return allocate(memory, bytes, kPinned);
}
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  return cudaHostAlloc(memory, bytes, cudaHostAllocDefault);
}
cudaError_t cudaFreeHost(void* memory) { return release(memory, true); }

// The legacy default stream waits for no stream of ours: they are all non-blocking.
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const Lock lock(runtime_mutex);
  if (!agrees(kind, {kind_of(to, bytes), kind_of(from, bytes)})) return report(cudaErrorInvalidValue);
  std::memmove(to, from, bytes);
  return device_status();
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return enqueue({static_cast<char*>(to), bytes, static_cast<const char*>(from), bytes, bytes, 1}, kind,
                 stream);
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  if (width > to_pitch || width > from_pitch) return report(cudaErrorInvalidValue);
  return enqueue(
      {static_cast<char*>(to), to_pitch, static_cast<const char*>(from), from_pitch, width, height}, kind,
      stream);
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  const Lock lock(runtime_mutex);
  if (bytes > 0 && kind_of(to, bytes) == Kind::kPageable) return report(cudaErrorInvalidValue);
  return put(stream, {.work = [=] { std::memset(to, value, bytes); }});
}
