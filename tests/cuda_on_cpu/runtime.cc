// Devices, memory, streams and events of the shim.
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <string_view>

namespace cuda_on_cpu {

using Clock = std::chrono::steady_clock;

struct EventRecord {
  // Each cudaEventRecord is a generation; complete once everything before it in its stream is.
  std::uint64_t recorded = 0, completed = 0;
  StreamQueue* stream = nullptr;  // of the last record
  Clock::time_point time{};
};

struct Item {
  std::function<void()> work;
  EventRecord* awaited = nullptr;  // this item only waits for it
  std::uint64_t generation = 0;
};

struct StreamQueue {
  int device = 0;
  std::deque<Item> items;
  bool running = false;
};

namespace {

constexpr std::size_t kMaxShared = 227 << 10, kDefaultShared = 48 << 10;

// One for everything: kernels of different ranks run one after another.
std::recursive_mutex mutex;
using Lock = std::lock_guard<std::recursive_mutex>;

struct Allocation {
  std::size_t bytes;
  int device;  // -1: page-locked host memory
};
std::map<const char*, Allocation> allocations;
std::set<StreamQueue*> streams;
std::map<const void*, std::size_t> allowed_shared;
thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;
cudaError_t sticky_error = cudaSuccess;  // of a kernel that failed: the device is lost
std::string failure = "unspecified launch failure";

bool eager() {
  const char* policy = std::getenv("TERROIR_EMULATOR_STREAMS");
  return policy != nullptr && std::string_view(policy) == "eager";
}

int num_devices() {
  const char* count = std::getenv("TERROIR_EMULATED_GPUS");
  return count == nullptr ? 1 : std::atoi(count);
}

cudaError_t report(cudaError_t code) {
  if (code != cudaSuccess && code != cudaErrorNotReady) last_error = code;
  return code;
}

// The allocation that [memory, memory + bytes) lies in, or nullptr.
const Allocation* find(const void* memory, std::size_t bytes) {
  const char* begin = static_cast<const char*>(memory);
  auto after = allocations.upper_bound(begin);
  if (after == allocations.begin()) return nullptr;
  --after;
  return begin + bytes <= after->first + after->second.bytes ? &after->second : nullptr;
}
bool on_device(const void* memory, std::size_t bytes) {
  const Allocation* found = find(memory, bytes);
  return found != nullptr && found->device >= 0;
}

void drain(
    StreamQueue& stream, const std::function<bool()>& enough = [] { return false; });

void complete(EventRecord& event, std::uint64_t generation) {
  if (event.completed < generation && event.stream != nullptr)
    drain(*event.stream, [&] { return event.completed >= generation; });
}

// Runs what is in the stream, all of it or until it is enough.
void drain(StreamQueue& stream, const std::function<bool()>& enough) {
  if (stream.running)
    return;  // an event of a stream that waits for this one: recorded before, or never complete
  stream.running = true;
  while (!stream.items.empty() && !enough()) {
    const Item item = std::move(stream.items.front());
    stream.items.pop_front();
    if (item.awaited != nullptr) complete(*item.awaited, item.generation);
    if (item.work && sticky_error == cudaSuccess) {
      try {
        item.work();
      } catch (const KernelError& error) {
        failure = error.what();
        sticky_error = cudaErrorLaunchFailure;
      }
    }
  }
  stream.running = false;
}

cudaError_t put(StreamQueue* stream, Item item) {
  if (streams.count(stream) == 0) return report(cudaErrorInvalidResourceHandle);
  stream->items.push_back(std::move(item));
  if (eager()) drain(*stream);
  return report(sticky_error);
}

void drain_all() {
  for (StreamQueue* stream : streams) drain(*stream);
}

void* allocate(std::size_t bytes, int device) {
  // A block of its own, so that AddressSanitizer sees its ends; 0xff: what is read before it is written
  // shows.
  void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(memory, 0xFF, bytes);
  allocations[static_cast<const char*>(memory)] = {bytes, device};
  return memory;
}

cudaError_t release(void* memory) {
  const Lock lock(mutex);
  if (memory == nullptr) return cudaSuccess;
  drain_all();  // as cudaFree, which waits for the device
  if (allocations.erase(static_cast<const char*>(memory)) == 0) return report(cudaErrorInvalidValue);
  std::free(memory);
  return cudaSuccess;
}

std::string name_of(const void* kernel) {
  Dl_info info{};
  return dladdr(kernel, &info) != 0 && info.dli_sname != nullptr ? info.dli_sname : "a kernel";
}

}  // namespace

cudaError_t enqueue_launch(const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
                           StreamQueue* stream, std::function<void()> thread) {
  const Lock lock(mutex);
  const auto threads = std::uint64_t{block.x} * block.y * block.z;
  const auto allowed = allowed_shared.find(kernel);
  const std::size_t most = allowed == allowed_shared.end() ? kDefaultShared : allowed->second;
  const bool good = threads >= 1 && threads <= 1024 && block.z <= 64 && grid.x >= 1 && grid.x <= 0x7FFFFFFF &&
                    grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 && grid.z <= 65535;
  if (!good) return report(cudaErrorInvalidConfiguration);
  if (shared_bytes > most) return report(cudaErrorInvalidValue);
  if (streams.count(stream) == 0 || stream->device != current_device)
    return report(cudaErrorInvalidResourceHandle);
  Launch launch{name_of(kernel), grid, block, shared_bytes, std::move(thread)};
  return put(stream, {[launch = std::move(launch)] { run(launch); }});
}

std::string take_failure() {
  const Lock lock(mutex);
  if (sticky_error == cudaSuccess) return "";
  sticky_error = last_error = cudaSuccess;
  return failure;
}

cudaError_t allow_shared_memory(const void* kernel, int bytes) {
  const Lock lock(mutex);
  if (bytes < 0 || static_cast<std::size_t>(bytes) > kMaxShared) return report(cudaErrorInvalidValue);
  allowed_shared[kernel] = static_cast<std::size_t>(bytes);
  return cudaSuccess;
}

}  // namespace cuda_on_cpu

using namespace cuda_on_cpu;

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
  return "unknown error";
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
  if (device < 0 || device >= num_devices()) return report(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= num_devices()) return report(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "emulated GPU");
  properties->totalGlobalMem = std::size_t{8} << 30;
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->sharedMemPerBlockOptin = kMaxShared;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device < 0 || device >= num_devices()) return report(cudaErrorInvalidDevice);
  *value = attribute == cudaDevAttrMultiProcessorCount ? 4 : static_cast<int>(kMaxShared);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  if (device < 0 || device >= num_devices()) return report(cudaErrorInvalidDevice);
  std::snprintf(text, static_cast<std::size_t>(length), "0000:%02x:00.0", device + 1);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const Lock lock(mutex);
  *total = std::size_t{8} << 30;
  *free = *total;
  for (const auto& [memory, allocation] : allocations)
    if (allocation.device == current_device) *free -= std::min(*free, allocation.bytes);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  const Lock lock(mutex);
  drain_all();
  return report(sticky_error);
}

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  const Lock lock(mutex);
  std::size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  if (bytes > free) return report(cudaErrorMemoryAllocation);
  *memory = allocate(bytes, current_device);
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) { return release(memory); }
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  const Lock lock(mutex);
  *memory = allocate(bytes, -1);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) { return release(memory); }

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Lock lock(mutex);
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (to_device != on_device(to, bytes) || from_device != on_device(from, bytes))
    return report(cudaErrorInvalidValue);
  if (!from_device &&
      find(from, bytes) == nullptr) {  // pageable: read now, as the driver does for small copies
    const std::string staged(static_cast<const char*>(from), bytes);
    return put(stream, {[=] { std::memcpy(to, staged.data(), bytes); }});
  }
  const cudaError_t code = put(stream, {[=] { std::memmove(to, from, bytes); }});
  if (code == cudaSuccess && !to_device && find(to, bytes) == nullptr)
    drain(*stream);  // pageable: complete on return
  return code;
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  const Lock lock(mutex);
  if (!on_device(to, bytes)) return report(cudaErrorInvalidValue);
  return put(stream, {[=] { std::memset(to, value, bytes); }});
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const Lock lock(mutex);
  *stream = new StreamQueue{.device = current_device};
  streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Lock lock(mutex);
  if (streams.count(stream) == 0) return report(cudaErrorInvalidResourceHandle);
  drain(*stream);
  streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(mutex);
  if (streams.count(stream) == 0) return report(cudaErrorInvalidResourceHandle);
  drain(*stream);
  return report(sticky_error);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(mutex);
  return put(stream, {.work = {}, .awaited = event, .generation = event->recorded});
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void*), void* data) {
  const Lock lock(mutex);
  return put(stream, {[=] { function(data); }});
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new EventRecord;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Lock lock(mutex);
  complete(*event, event->recorded);
  drain_all();  // streams may still wait for it
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(mutex);
  complete(*event, event->recorded);  // an event is recorded again: keep one generation on its way
  event->stream = stream;
  const std::uint64_t generation = ++event->recorded;
  return put(stream, {[=] {
               event->completed = generation;
               event->time = Clock::now();
             }});
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(mutex);
  complete(*event, event->recorded);
  return report(sticky_error);
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const Lock lock(mutex);
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - begin->time).count();
  return cudaSuccess;
}
