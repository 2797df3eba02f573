#include "kernels/tensor/buffer.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace terroir {
namespace {

constexpr std::int64_t kAlignment = 256;
std::int64_t align_up(std::int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Buffer::Buffer(std::int64_t bytes, Device device) : bytes_(align_up(bytes)), device_(device) {
  TERROIR_CHECK(bytes >= 0, "a buffer of {} bytes", bytes);
  TERROIR_CHECK(device.kind == DeviceKind::kCpu, "device memory comes from the CUDA module");
  if (bytes_ == 0) return;
  data_ = ::operator new (static_cast<std::size_t>(bytes_), std::align_val_t{kAlignment});
  std::memset(data_, 0, static_cast<std::size_t>(bytes_));
}
Buffer::~Buffer() { ::operator delete (data_, std::align_val_t{kAlignment}); }
Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      device_(other.device_) {}
Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(device_, other.device_);
  return *this;
}

View Buffer::view(DType dtype, std::initializer_list<std::int64_t> shape, std::int64_t offset_bytes) const {
  View view(static_cast<std::uint8_t*>(data_) + offset_bytes, dtype, shape, device_);
  TERROIR_CHECK(offset_bytes >= 0 && offset_bytes + view.bytes() <= bytes_, "{} at byte {} of a buffer of {}",
                view.describe(), offset_bytes, bytes_);
  return view;
}

View Arena::allocate(DType dtype, std::initializer_list<std::int64_t> shape) {
  View view(nullptr, dtype, shape, device_);
  const std::int64_t begin = used_;
  used_ += align_up(view.bytes());
  if (planning()) {
    peak_ = std::max(peak_, used_);
    return view;
  }
  TERROIR_CHECK(used_ <= buffer_.bytes(), "arena of {} bytes exceeded by {}: the plan missed an allocation",
                buffer_.bytes(), view.describe());
  return buffer_.view(dtype, shape, begin);
}

void Arena::reserve() {
  if (peak_ > 0) buffer_ = Buffer(peak_, device_);
  used_ = 0;
}

}  // namespace terroir
