#include "kernels/tensor/buffer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/tensor/device.h"

namespace terroir {
namespace {

constexpr std::int64_t kAlignment = 256;
std::int64_t align_up(std::int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Buffer::Buffer(std::int64_t bytes, Device device) : bytes_(align_up(bytes)), device_(device) {
  TERROIR_CHECK(bytes >= 0, "a buffer of {} bytes", bytes);
  if (bytes_ > 0) data_ = device_runtime(device_).allocate(device_.index, bytes_);
}
Buffer Buffer::pinned(std::int64_t bytes, Device device) {
  TERROIR_CHECK(bytes >= 0, "a buffer of {} bytes", bytes);
  Buffer buffer;
  buffer.pinned_by_ = &device_runtime(device);
  buffer.bytes_ = align_up(bytes);
  if (buffer.bytes_ == 0) return buffer;
  buffer.data_ = buffer.pinned_by_->allocate_pinned(buffer.bytes_);
  std::memset(buffer.data_, 0, static_cast<std::size_t>(buffer.bytes_));
  return buffer;
}
void Buffer::release() noexcept {
  if (data_ == nullptr) return;
  if (pinned_by_ != nullptr)
    pinned_by_->free_pinned(data_);
  else
    device_runtime(device_).free(device_.index, data_);
}
Buffer::~Buffer() { release(); }
Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      device_(other.device_),
      pinned_by_(other.pinned_by_) {}
Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(device_, other.device_);
  std::swap(pinned_by_, other.pinned_by_);
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
