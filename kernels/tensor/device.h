// What a device offers besides ops: memory, transfers, and the order of work. The CPU's part is trivial (work
// runs inline, in the caller); the CUDA module brings the other.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

struct DeviceInfo {
  std::string name;     // "NVIDIA H100 80GB HBM3"
  std::string address;  // PCI, "0000:1b:00.0": tells whether two ranks share a device
  std::int64_t total_bytes = 0, free_bytes = 0;
  int compute_capability = 0;  // 90 for sm_90; 0 on the CPU
};

// One per kind of device. Callable from several threads. Failures throw SystemError with the library's call.
// Streams and events are opaque: cudaStream_t, cudaEvent_t; null on the CPU.
class DeviceRuntime {
 public:
  virtual ~DeviceRuntime() = default;
  virtual int num_devices() = 0;
  virtual DeviceInfo info(int device) = 0;
  // Ops that the calling thread enqueues from now on run on `device`: once per thread, before its first op.
  virtual void make_current(int device) = 0;

  // 256-byte aligned, all zero.
  virtual void* allocate(int device, std::int64_t bytes) = 0;
  virtual void free(int device, void* memory) noexcept = 0;
  // Host memory that transfers read and write while the host goes on.
  virtual void* allocate_pinned(std::int64_t bytes) = 0;
  virtual void free_pinned(void* memory) noexcept = 0;

  virtual void* create_stream(int device) = 0;
  virtual void destroy_stream(void* stream) noexcept = 0;
  virtual void synchronize_stream(void* stream) = 0;

  virtual void* create_event(int device, bool timed) = 0;
  virtual void destroy_event(void* event) noexcept = 0;
  virtual void record_event(void* event, void* stream) = 0;
  virtual void stream_wait_event(void* stream, void* event) = 0;
  virtual bool event_done(void* event) = 0;
  virtual void synchronize_event(void* event) = 0;
  virtual double elapsed_s(void* begin, void* end) = 0;  // both timed, recorded and complete

  // Copies after the work enqueued on `stream` before. Which memory is the device's is told by the pointers'
  // views.
  virtual void transfer(void* to, bool to_device, const void* from, bool from_device, std::int64_t bytes,
                        void* stream) = 0;
};

// Throws SystemError for CUDA where no CUDA module is loaded (kernels/tensor/cuda_module.h).
DeviceRuntime& device_runtime(Device device);

// Owner of a stream, with the calling thread's ops directed to its device. Work on different streams is
// ordered by events only.
class OwnedStream {
 public:
  explicit OwnedStream(Device device = {});
  ~OwnedStream();
  OwnedStream(const OwnedStream&) = delete;
  OwnedStream& operator=(const OwnedStream&) = delete;
  const Stream& stream() const { return stream_; }
  operator const Stream&() const { return stream_; }

 private:
  Stream stream_;
};

// A point in a stream's work. On the CPU every event is complete at once. Never recorded: complete.
// Only timed events have a time: on CUDA, where the device takes it, the others cost less.
class Event {
 public:
  explicit Event(Device device = {}) : Event(device, false) {}
  static Event timed(Device device) { return Event(device, true); }
  ~Event();
  Event(Event&& other) noexcept;
  Event& operator=(Event&& other) noexcept;

  void record(const Stream& stream);
  // What is enqueued on `stream` from now on starts after this point. The host does not wait.
  void order_before(const Stream& stream) const;
  // Everything enqueued before record() is complete.
  bool done() const;
  // The host waits for it.
  void wait() const;
  // From `begin` to this, by the device's clock. REQUIRES: both timed, of the same device, recorded and done.
  double seconds_since(const Event& begin) const;

 private:
  Event(Device device, bool timed);
  Device device_;
  void* native_ = nullptr;
};

// The host waits until everything enqueued on `stream` is complete.
void synchronize(const Stream& stream);

// to = from, bit for bit: contiguous, same dtype and number of elements, each in host memory or on the
// stream's device. Enqueued; the host goes on. Host memory must stay as it is until the copy is complete, and
// should come from Buffer::pinned(): with other memory the host may have to wait.
void transfer(const Stream& stream, const ConstView& from, const View& to);

}  // namespace terroir
