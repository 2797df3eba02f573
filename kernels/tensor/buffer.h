// Owners of tensor memory. They never enter an op's signature: ops take views.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "kernels/tensor/view.h"

namespace terroir {

class DeviceRuntime;

// One block of memory of a device, 256-byte aligned, zero-filled on creation. Move-only.
class Buffer {
 public:
  Buffer() = default;
  Buffer(std::int64_t bytes, Device device = {});
  // Host memory which transfer() to and from `device` reads and writes while the host goes on (page-locked);
  // zero.
  static Buffer pinned(std::int64_t bytes, Device device);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  std::int64_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  void* raw() const { return data_; }
  // A contiguous view from byte `offset`. REQUIRES: it lies inside the buffer.
  View view(DType dtype, std::initializer_list<std::int64_t> shape, std::int64_t offset_bytes = 0) const;

 private:
  void release() noexcept;
  void* data_ = nullptr;
  std::int64_t bytes_ = 0;
  Device device_;                       // whose memory it is
  DeviceRuntime* pinned_by_ = nullptr;  // of host memory that is page-locked
};

// Hands out 256-byte aligned views one after another. In planning mode (the default state) it has no memory:
// it counts, and the views it returns have shapes but no data. So the same code that lays out a step's
// activations first measures them: plan, reserve(), reset(), lay out again.
class Arena {
 public:
  explicit Arena(Device device = {}) : device_(device) {}
  Device device() const { return device_; }
  bool planning() const { return buffer_.bytes() == 0; }
  View allocate(DType dtype, std::initializer_list<std::int64_t> shape);
  // Gives everything back; views handed out before become invalid for reading after the next allocate().
  void reset() { used_ = 0; }
  // Position to come back to: rewind(mark()) frees what was allocated since.
  std::int64_t mark() const { return used_; }
  void rewind(std::int64_t mark) { used_ = mark; }
  std::int64_t peak_bytes() const { return peak_; }
  // Leaves planning mode with memory for peak_bytes().
  void reserve();

 private:
  Device device_;
  Buffer buffer_;
  std::int64_t used_ = 0;
  std::int64_t peak_ = 0;
};

}  // namespace terroir
