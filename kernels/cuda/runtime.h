// The CUDA runtime behind DeviceRuntime.
#pragma once

#include "kernels/tensor/device.h"

namespace terroir::cuda {

class Runtime : public DeviceRuntime {
 public:
  int num_devices() override;
  DeviceInfo info(int device) override;
  void make_current(int device) override;

  void* allocate(int device, std::int64_t bytes) override;
  void free(int device, void* memory) noexcept override;
  void* allocate_pinned(std::int64_t bytes) override;
  void free_pinned(void* memory) noexcept override;

  void* create_stream(int device) override;
  void destroy_stream(void* stream) noexcept override;
  void synchronize_stream(void* stream) override;

  void* create_event(int device, bool timed) override;
  void destroy_event(void* event) noexcept override;
  void record_event(void* event, void* stream) override;
  void stream_wait_event(void* stream, void* event) override;
  bool event_done(void* event) override;
  void synchronize_event(void* event) override;
  double elapsed_s(void* begin, void* end) override;

  void transfer(void* to, bool to_device, const void* from, bool from_device, std::int64_t bytes,
                void* stream) override;
};

}  // namespace terroir::cuda
