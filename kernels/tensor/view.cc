#include "kernels/tensor/view.h"

#include <algorithm>

namespace terroir {

std::int64_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
      return 2;
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kU8:
      return 1;
  }
  return 0;
}

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kF64:
      return "f64";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
    case DType::kU8:
      return "u8";
  }
  return "?";
}

ConstView::ConstView(const void* data, DType dtype, std::initializer_list<std::int64_t> shape, Device device)
    : data_(const_cast<void*>(data)), rank_(static_cast<int>(shape.size())), dtype_(dtype), device_(device) {
  TERROIR_CHECK(rank_ >= 1 && rank_ <= kMaxRank, "a view has 1 to {} dimensions, not {}", kMaxRank,
                shape.size());
  std::copy(shape.begin(), shape.end(), shape_.begin());
  std::int64_t stride = 1;
  for (int dim = rank_ - 1; dim >= 0; --dim) {
    TERROIR_CHECK(shape_[dim] >= 0, "dimension {} is {}", dim, shape_[dim]);
    strides_[dim] = stride;
    stride *= shape_[dim];
  }
}

std::int64_t ConstView::numel() const {
  if (rank_ == 0) return 0;
  std::int64_t count = 1;
  for (int dim = 0; dim < rank_; ++dim) count *= shape_[dim];
  return count;
}

bool ConstView::is_contiguous() const {
  std::int64_t stride = 1;
  for (int dim = rank_ - 1; dim >= 0; --dim) {
    if (shape_[dim] != 1 && strides_[dim] != stride) return false;
    stride *= shape_[dim];
  }
  return true;
}

bool ConstView::same_shape(const ConstView& other) const {
  return rank_ == other.rank_ && std::equal(shape_.begin(), shape_.begin() + rank_, other.shape_.begin());
}

std::string ConstView::describe() const {
  std::string text = std::string(dtype_name(dtype_)) + "[";
  for (int dim = 0; dim < rank_; ++dim) text += fmt::format("{}{}", dim == 0 ? "" : ", ", shape_[dim]);
  return text + "]";
}

ConstView ConstView::slice(int dim, std::int64_t begin, std::int64_t end) const {
  TERROIR_CHECK(dim >= 0 && dim < rank_ && begin >= 0 && begin <= end && end <= shape_[dim],
                "slice [{}, {}) of dimension {} of {}", begin, end, dim, describe());
  ConstView view = *this;
  view.shape_[dim] = end - begin;
  if (data_ != nullptr)
    view.data_ = static_cast<std::uint8_t*>(data_) + begin * strides_[dim] * dtype_bytes(dtype_);
  return view;
}

ConstView ConstView::reshape(std::initializer_list<std::int64_t> shape) const {
  ConstView view(data_, dtype_, shape, device_);
  TERROIR_CHECK(is_contiguous() && view.numel() == numel(), "{} cannot be seen as {}", describe(),
                view.describe());
  return view;
}

ConstView ConstView::reshape_like(const ConstView& other) const {
  TERROIR_CHECK(is_contiguous() && other.numel() == numel(), "{} cannot be seen as {}", describe(),
                other.describe());
  ConstView view = *this;
  view.rank_ = other.rank_;
  std::int64_t stride = 1;
  for (int dim = other.rank_ - 1; dim >= 0; --dim) {
    view.shape_[static_cast<std::size_t>(dim)] = other.size(dim);
    view.strides_[static_cast<std::size_t>(dim)] = stride;
    stride *= other.size(dim);
  }
  return view;
}

ConstView ConstView::split(int dim, std::int64_t inner) const {
  TERROIR_CHECK(rank_ < kMaxRank && dim >= 0 && dim < rank_ && inner > 0 && shape_[dim] % inner == 0,
                "dimension {} of {} does not split by {}", dim, describe(), inner);
  ConstView view = *this;
  view.rank_ = rank_ + 1;
  for (int d = rank_; d > dim + 1; --d) {
    view.shape_[d] = shape_[d - 1];
    view.strides_[d] = strides_[d - 1];
  }
  view.shape_[dim] = shape_[dim] / inner;
  view.strides_[dim] = strides_[dim] * inner;
  view.shape_[dim + 1] = inner;
  view.strides_[dim + 1] = strides_[dim];
  return view;
}

void ConstView::check_access(DType wanted) const {
  TERROIR_CHECK(wanted == dtype_, "{} read as {}", describe(), dtype_name(wanted));
  TERROIR_CHECK(device_.kind == DeviceKind::kCpu, "{} is device memory", describe());
}

}  // namespace terroir
