// What the parts of the emulated runtime share.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>

#include "tests/cuda_on_cpu/host_counts.h"

namespace cuda_on_cpu {

constexpr std::size_t kMaxShared = 227 << 10, kDefaultShared = 48 << 10;

// One for all of the runtime. Held while work runs: kernels of different ranks run one after another.
extern std::recursive_mutex runtime_mutex;
using Lock = std::lock_guard<std::recursive_mutex>;

// --- devices.cc ---
extern HostCounts host_counts;
extern thread_local int current_device;
int num_devices();
// Keeps `code` for cudaGetLastError and returns it.
cudaError_t report(cudaError_t code);
// The device is lost with the first kernel that fails: every later call says so.
void lose_device(const std::string& reason);
bool device_is_lost();
cudaError_t device_status();

// --- memory.cc ---
struct Allocation {
  std::size_t bytes;
  int device;  // kPinned: page-locked memory of the host
};
constexpr int kPinned = -1;
// The allocation that [memory, memory + bytes) lies in, or nullptr: pageable memory of the host.
const Allocation* find(const void* memory, std::size_t bytes);
std::size_t bytes_used(int device);

// --- streams.cc ---
// A point in a stream that an event was recorded at.
struct Mark {
  StreamQueue* stream;  // while not done
  bool done = false;
  std::chrono::steady_clock::time_point time{};
};
struct Item {
  std::function<bool()>
      may_start;  // any of these may be empty; asked until true, may run other streams' work
  std::function<void()> work;
  std::shared_ptr<Mark> mark;  // after it
};
struct StreamQueue {
  int device = 0;
  std::deque<Item> items;
  bool held = false;       // it runs, or must not for now
  bool destroyed = false;  // by its owner; lives until it is empty
};
struct EventHandle {
  bool timed = true;
  std::shared_ptr<Mark> last;  // null: never recorded
};
bool is_stream(const StreamQueue* stream);
// Under TERROIR_EMULATOR_STREAMS=eager it runs at once.
cudaError_t put(StreamQueue* stream, Item item);
// Runs what is before the mark, as far as nothing stands in the way. Whether it was reached.
bool reach(Mark& mark);
// Something that an item's may_start() asks for has changed, other than by put().
void wake_hosts();
// The host waits for all of the stream's work, or for all work of a device (-1: of all). Others may enqueue
// meanwhile what that work needs: the caller holds runtime_mutex once, and is without it while it sleeps.
cudaError_t wait_for(StreamQueue& stream);
void wait_for_device(int device);

}  // namespace cuda_on_cpu
