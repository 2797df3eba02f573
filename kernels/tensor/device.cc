#include "kernels/tensor/device.h"

#include <chrono>
#include <cstring>
#include <new>
#include <utility>

#include "kernels/tensor/cuda_module.h"

namespace terroir {
namespace {

constexpr std::align_val_t kAlignment{256};

using Clock = std::chrono::steady_clock;

// Work runs in the caller: a timed event is the time at which it was recorded, any other is nothing.
class CpuRuntime : public DeviceRuntime {
 public:
  int num_devices() override { return 1; }
  DeviceInfo info(int) override { return {.name = "cpu"}; }
  void make_current(int) override {}

  void* allocate(int, std::int64_t bytes) override {
    void* memory = ::operator new(static_cast<std::size_t>(bytes), kAlignment);
    return std::memset(memory, 0, static_cast<std::size_t>(bytes));
  }
  void free(int, void* memory) noexcept override { ::operator delete(memory, kAlignment); }
  void* allocate_pinned(std::int64_t bytes) override { return allocate(0, bytes); }
  void free_pinned(void* memory) noexcept override { free(0, memory); }

  void* create_stream(int) override { return nullptr; }
  void destroy_stream(void*) noexcept override {}
  void synchronize_stream(void*) override {}

  void* create_event(int, bool timed) override { return timed ? new Clock::time_point : nullptr; }
  void destroy_event(void* event) noexcept override { delete static_cast<Clock::time_point*>(event); }
  void record_event(void* event, void*) override {
    if (event != nullptr) *static_cast<Clock::time_point*>(event) = Clock::now();
  }
  void stream_wait_event(void*, void*) override {}
  bool event_done(void*) override { return true; }
  void synchronize_event(void*) override {}
  double elapsed_s(void* begin, void* end) override {
    TERROIR_CHECK(begin != nullptr && end != nullptr, "elapsed_s: events that are not timed");
    return std::chrono::duration<double>(*static_cast<Clock::time_point*>(end) -
                                         *static_cast<Clock::time_point*>(begin))
        .count();
  }

  void transfer(void* to, bool, const void* from, bool, std::int64_t bytes, void*) override {
    std::memmove(to, from, static_cast<std::size_t>(bytes));
  }
};

}  // namespace

DeviceRuntime& device_runtime(Device device) {
  static CpuRuntime cpu;
  if (device.kind == DeviceKind::kCuda) return *cuda_module().runtime;
  return cpu;
}

OwnedStream::OwnedStream(Device device) {
  DeviceRuntime& runtime = device_runtime(device);
  runtime.make_current(device.index);
  stream_ = Stream(device, runtime.create_stream(device.index));
}
OwnedStream::~OwnedStream() { device_runtime(stream_.device()).destroy_stream(stream_.native()); }

Event::Event(Device device, bool timed)
    : device_(device), native_(device_runtime(device).create_event(device.index, timed)) {}
Event::~Event() {
  if (native_ != nullptr) device_runtime(device_).destroy_event(native_);
}
Event::Event(Event&& other) noexcept
    : device_(other.device_), native_(std::exchange(other.native_, nullptr)) {}
Event& Event::operator=(Event&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(native_, other.native_);
  return *this;
}
void Event::record(const Stream& stream) { device_runtime(device_).record_event(native_, stream.native()); }
void Event::order_before(const Stream& stream) const {
  device_runtime(device_).stream_wait_event(stream.native(), native_);
}
bool Event::done() const { return device_runtime(device_).event_done(native_); }
void Event::wait() const { device_runtime(device_).synchronize_event(native_); }
double Event::seconds_since(const Event& begin) const {
  return device_runtime(device_).elapsed_s(begin.native_, native_);
}

void synchronize(const Stream& stream) {
  device_runtime(stream.device()).synchronize_stream(stream.native());
}

void transfer(const Stream& stream, const ConstView& from, const View& to) {
  TERROIR_CHECK(
      from.dtype() == to.dtype() && from.numel() == to.numel() && from.is_contiguous() && to.is_contiguous(),
      "transfer of {} to {}", from.describe(), to.describe());
  const Device host{}, device = stream.device();
  TERROIR_CHECK(
      (from.device() == host || from.device() == device) && (to.device() == host || to.device() == device),
      "transfer of {} to {}: memory of another device than the stream's", from.describe(), to.describe());
  if (from.numel() == 0) return;
  device_runtime(device).transfer(to.raw(), !(to.device() == host), from.raw(), !(from.device() == host),
                                  from.bytes(), stream.native());
}

}  // namespace terroir
