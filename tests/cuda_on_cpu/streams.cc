// Streams, events, launches: work waits in queues and runs when somebody needs it.
#include <cxxabi.h>
#include <dlfcn.h>

#include <condition_variable>
#include <cstdlib>
#include <list>
#include <map>
#include <string_view>

#include "tests/cuda_on_cpu/runtime.h"

namespace cuda_on_cpu {
namespace {

std::list<std::unique_ptr<StreamQueue>> streams;  // newest first
std::map<const void*, std::size_t> allowed_shared;
std::condition_variable_any something_came;  // with runtime_mutex: work that a waiting host may need

enum class Policy { kLazy, kEager, kOthersFirst };
Policy policy() {
  const char* text = std::getenv("TERROIR_EMULATOR_STREAMS");
  if (text == nullptr || std::string_view(text) == "lazy") return Policy::kLazy;
  if (std::string_view(text) == "eager") return Policy::kEager;
  if (std::string_view(text) == "others_first") return Policy::kOthersFirst;
  throw std::invalid_argument("TERROIR_EMULATOR_STREAMS is lazy, eager or others_first");
}

class Hold {
 public:
  explicit Hold(StreamQueue& stream) : stream_(stream) { stream_.held = true; }
  ~Hold() { stream_.held = false; }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

 private:
  StreamQueue& stream_;
};

void execute(const Item& item) {
  if (item.work && !device_is_lost()) {
    try {
      item.work();
    } catch (const std::exception& error) {
      lose_device(error.what());
      wake_hosts();
    }
  }
  if (item.mark == nullptr) return;
  item.mark->time = std::chrono::steady_clock::now();
  item.mark->done = true;
}

// Nothing holds up a lost device's streams: they run empty.
bool may_start(const Item& item) { return !item.may_start || device_is_lost() || item.may_start(); }

// Runs the stream's work until it is enough, or there is none, or it waits for a stream that is held or for
// what is not enqueued yet.
template <class Enough>
void advance(StreamQueue& stream, Enough enough) {
  if (stream.held) return;
  const Hold hold(stream);
  while (!stream.items.empty() && !enough()) {
    if (!may_start(stream.items.front())) return;
    const Item item = std::move(stream.items.front());
    stream.items.pop_front();
    execute(item);
  }
}
void advance(StreamQueue& stream) {
  advance(stream, [] { return false; });
}
// One piece of work, for a host that asks again and again.
void step(StreamQueue& stream) {
  advance(stream, [&stream, before = stream.items.size()] { return stream.items.size() < before; });
}

void forget_destroyed() {
  streams.remove_if([](const auto& each) { return each->destroyed && each->items.empty() && !each->held; });
}

// The host waits for something in this stream: under kOthersFirst all that need not wait for it runs before.
void let_others_run(StreamQueue& stream) {
  if (policy() != Policy::kOthersFirst) return;
  const Hold hold(stream);
  for (const auto& other : streams) advance(*other);
}

// The host tries until it succeeds, and sleeps while it is other threads' turn to enqueue something.
template <class Attempt>
void wait_until(Attempt attempt) {
  while (!attempt()) something_came.wait(runtime_mutex);
}

// Whether the streams of a device (-1: of all) have nothing left to do.
bool run_empty(int device) {
  bool empty = true;
  for (const auto& stream : streams) {
    if (device != -1 && stream->device != device) continue;
    advance(*stream);
    empty = empty && stream->items.empty();
  }
  return empty;
}

cudaError_t not_ready_unless_empty(StreamQueue& stream) {
  if (stream.items.empty()) return device_status();
  step(stream);
  return cudaErrorNotReady;
}

std::string name_of(const void* kernel) {
  Dl_info info{};
  if (dladdr(kernel, &info) == 0 || info.dli_sname == nullptr) return "a kernel";
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name(
      abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status), std::free);
  return status == 0 ? name.get() : info.dli_sname;
}

bool is_possible(const dim3& grid, const dim3& block) {
  const auto threads = std::uint64_t{block.x} * block.y * block.z;
  return threads >= 1 && threads <= 1024 && block.z <= 64 && grid.x >= 1 && grid.x <= 0x7FFFFFFF &&
         grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 && grid.z <= 65535;
}

}  // namespace

bool is_stream(const StreamQueue* stream) {
  for (const auto& each : streams)
    if (each.get() == stream) return !each->destroyed;
  return false;
}

cudaError_t put(StreamQueue* stream, Item item) {
  if (!is_stream(stream)) return report(cudaErrorInvalidResourceHandle);
  if (device_is_lost()) {
    if (item.mark != nullptr) item.mark->done = true;  // nobody waits for it in vain
    return device_status();
  }
  stream->items.push_back(std::move(item));
  if (policy() == Policy::kEager) run_empty(-1);  // others may have waited for it
  wake_hosts();
  return device_status();
}

bool reach(Mark& mark) {
  if (!mark.done) advance(*mark.stream, [&] { return mark.done; });
  return mark.done;
}

void wake_hosts() { something_came.notify_all(); }

cudaError_t wait_for(StreamQueue& stream) {
  wait_until([&] {
    let_others_run(stream);
    advance(stream);
    return stream.items.empty();
  });
  return device_status();
}

void wait_for_device(int device) {
  wait_until([=] { return run_empty(device); });
  forget_destroyed();
}

cudaError_t enqueue_launch(const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
                           StreamQueue* stream, std::function<void()> thread) {
  const Lock lock(runtime_mutex);
  const auto allowed = allowed_shared.find(kernel);
  const std::size_t most = allowed == allowed_shared.end() ? kDefaultShared : allowed->second;
  if (!is_possible(grid, block)) return report(cudaErrorInvalidConfiguration);
  if (shared_bytes > most) return report(cudaErrorInvalidValue);
  if (!is_stream(stream) || stream->device != current_device) return report(cudaErrorInvalidResourceHandle);
  Launch launch{name_of(kernel), grid, block, shared_bytes, std::move(thread)};
  return put(stream, {.work = [launch = std::move(launch)] { run(launch); }});
}

cudaError_t allow_shared_memory(const void* kernel, int bytes) {
  const Lock lock(runtime_mutex);
  if (bytes < 0 || static_cast<std::size_t>(bytes) > kMaxShared) return report(cudaErrorInvalidValue);
  allowed_shared[kernel] = std::max(static_cast<std::size_t>(bytes), kDefaultShared);
  return cudaSuccess;
}

}  // namespace cuda_on_cpu

using namespace cuda_on_cpu;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const Lock lock(runtime_mutex);
  // The default stream, which the others order themselves by, is not modelled.
  if (flags != cudaStreamNonBlocking) return report(cudaErrorInvalidValue);
  streams.push_front(std::make_unique<StreamQueue>());
  *stream = streams.front().get();
  (*stream)->device = current_device;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
// As the real one: returns at once, what is enqueued runs some time.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Lock lock(runtime_mutex);
  if (!is_stream(stream)) return report(cudaErrorInvalidResourceHandle);
  stream->destroyed = true;
  forget_destroyed();
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(runtime_mutex);
  if (!is_stream(stream)) return report(cudaErrorInvalidResourceHandle);
  ++host_counts.waits;
  return wait_for(*stream);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const Lock lock(runtime_mutex);
  if (!is_stream(stream)) return report(cudaErrorInvalidResourceHandle);
  return not_ready_unless_empty(*stream);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(runtime_mutex);
  return put(stream, {.may_start = [mark = event->last] { return mark == nullptr || reach(*mark); }});
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void*), void* data) {
  const Lock lock(runtime_mutex);
  return put(stream, {.work = [=] { function(data); }});
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new EventHandle{.timed = (flags & cudaEventDisableTiming) == 0};
  return cudaSuccess;
}
// Streams that wait for what it was recorded at go on waiting.
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(runtime_mutex);
  if (!is_stream(stream)) return report(cudaErrorInvalidResourceHandle);
  event->last = std::make_shared<Mark>(Mark{.stream = stream});
  return put(stream, {.mark = event->last});
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Lock lock(runtime_mutex);
  if (event->last == nullptr || event->last->done) return device_status();
  step(*event->last->stream);
  return cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(runtime_mutex);
  const std::shared_ptr<Mark> mark = event->last;
  if (mark != nullptr && !mark->done) ++host_counts.waits;
  wait_until([&] {
    if (mark == nullptr || mark->done) return true;
    let_others_run(*mark->stream);
    return reach(*mark);
  });
  return device_status();
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const Lock lock(runtime_mutex);
  if (!begin->timed || !end->timed || begin->last == nullptr || end->last == nullptr)
    return report(cudaErrorInvalidResourceHandle);
  if (!begin->last->done || !end->last->done) return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(end->last->time - begin->last->time).count();
  return cudaSuccess;
}
