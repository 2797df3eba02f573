// Strided views of memory somebody else owns: what every op takes. Passed by value.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "base/error.h"

namespace terroir {

enum class DType : std::uint8_t { kF32, kBF16, kF64, kI32, kI64, kU8 };
std::int64_t dtype_bytes(DType dtype);
const char* dtype_name(DType dtype);  // "f32", "bf16", ...

enum class DeviceKind : std::uint8_t { kCpu, kCuda };
struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};

// bfloat16 as stored: the upper half of a float.
struct BFloat16 {
  std::uint16_t bits;
};

template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::kF32;
}
template <>
constexpr DType dtype_of<BFloat16>() {
  return DType::kBF16;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::kF64;
}
template <>
constexpr DType dtype_of<std::int32_t>() {
  return DType::kI32;
}
template <>
constexpr DType dtype_of<std::int64_t>() {
  return DType::kI64;
}
template <>
constexpr DType dtype_of<std::uint8_t>() {
  return DType::kU8;
}

// Up to four dimensions, innermost stride 1, other strides free: so that a piece of a fused QKV matrix, a KV
// cache or half of a gate-up activation is a view and never a copy. Dimensions and strides count elements.
class ConstView {
 public:
  static constexpr int kMaxRank = 4;

  ConstView() = default;
  // Contiguous, row-major.
  ConstView(const void* data, DType dtype, std::initializer_list<std::int64_t> shape, Device device = {});

  int rank() const { return rank_; }
  std::int64_t size(int dim) const { return shape_[dim]; }
  std::int64_t stride(int dim) const { return strides_[dim]; }
  std::int64_t numel() const;
  std::int64_t bytes() const { return numel() * dtype_bytes(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  bool is_contiguous() const;
  // False for a default-constructed view: an optional argument that was not given.
  explicit operator bool() const { return data_ != nullptr; }
  bool same_shape(const ConstView& other) const;
  std::string describe() const;  // "f32[8, 256]"

  const void* raw() const { return data_; }
  // REQUIRES: T is the view's dtype and the memory is the host's.
  template <class T>
  const T* data() const {
    check_access(dtype_of<T>());
    return static_cast<const T*>(data_);
  }

  // Elements [begin, end) of dimension `dim`.
  ConstView slice(int dim, std::int64_t begin, std::int64_t end) const;
  // The same elements under another shape. REQUIRES: contiguous, equal numel.
  ConstView reshape(std::initializer_list<std::int64_t> shape) const;
  ConstView reshape_like(const ConstView& other) const;
  // Splits dimension `dim` into two: [.., inner_count_of_outer, inner, ..]; keeps strides. REQUIRES: `inner`
  // divides it.
  ConstView split(int dim, std::int64_t inner) const;

 protected:
  void check_access(DType wanted) const;
  void* data_ = nullptr;  // ConstView hands out only const access
  std::array<std::int64_t, kMaxRank> shape_{};
  std::array<std::int64_t, kMaxRank> strides_{};
  int rank_ = 0;
  DType dtype_ = DType::kF32;
  Device device_;
};

class View : public ConstView {
 public:
  View() = default;
  View(void* data, DType dtype, std::initializer_list<std::int64_t> shape, Device device = {})
      : ConstView(data, dtype, shape, device) {}

  void* raw() const { return data_; }
  template <class T>
  T* data() const {
    check_access(dtype_of<T>());
    return static_cast<T*>(data_);
  }
  View slice(int dim, std::int64_t begin, std::int64_t end) const {
    return View(ConstView::slice(dim, begin, end));
  }
  View reshape(std::initializer_list<std::int64_t> shape) const { return View(ConstView::reshape(shape)); }
  View reshape_like(const ConstView& other) const { return View(ConstView::reshape_like(other)); }
  View split(int dim, std::int64_t inner) const { return View(ConstView::split(dim, inner)); }

 private:
  explicit View(const ConstView& view) : ConstView(view) {}
};

}  // namespace terroir
