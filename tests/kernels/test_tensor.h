// Tensors for kernel tests: owned memory, strided on request, random or poisoned contents, comparison with
// f64.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "kernels/tensor/buffer.h"
#include "kernels/tensor/op_context.h"

namespace terroir::test {

using Shape = std::initializer_list<std::int64_t>;

inline OpContext context(int num_threads = 1) {
  OpContext ctx;
  ctx.num_threads = num_threads;
  return ctx;
}

// Offsets of a view's elements from its first one, in row-major order.
inline std::vector<std::int64_t> offsets(const ConstView& view) {
  std::vector<std::int64_t> result = {0};
  for (int dim = 0; dim < view.rank(); ++dim) {
    std::vector<std::int64_t> next;
    for (const std::int64_t base : result)
      for (std::int64_t i = 0; i < view.size(dim); ++i) next.push_back(base + i * view.stride(dim));
    result = std::move(next);
  }
  return result;
}

// f32 [shape], its innermost rows `pad` elements apart. All memory, gaps included, starts as NaN: an op that
// reads what it should not, or leaves an element unwritten, shows.
class Tensor {
 public:
  explicit Tensor(Shape shape, std::int64_t pad = 0) {
    std::vector<std::int64_t> padded(shape);
    const std::int64_t row = padded.back();
    std::int64_t rows = 1;
    for (std::size_t dim = 0; dim + 1 < padded.size(); ++dim) rows *= padded[dim];
    buffer_ = Buffer(std::max<std::int64_t>(rows * (row + pad), 1) * 4);
    view_ = matrix(rows, row + pad, padded).slice(view_rank_ - 1, 0, row);
    float* all = static_cast<float*>(buffer_.raw());
    std::fill(all, all + buffer_.bytes() / 4, std::numeric_limits<float>::quiet_NaN());
  }
  const View& view() const { return view_; }
  operator const View&() const { return view_; }

  // Uniform in [-1, 1) times `scale`.
  Tensor& randomize(std::uint32_t seed, float scale = 1) {
    std::mt19937 generator(seed);
    for (const std::int64_t offset : offsets(view_))
      view_.data<float>()[offset] = scale * (static_cast<float>(generator() >> 8) * 0x1p-23F - 1);
    return *this;
  }
  // NaN in the gaps between rows: nothing was written there.
  bool gaps_untouched() const {
    std::vector<char> used(static_cast<std::size_t>(buffer_.bytes() / 4));
    for (const std::int64_t offset : offsets(view_)) used[static_cast<std::size_t>(offset)] = 1;
    for (std::size_t i = 0; i < used.size(); ++i)
      if (!used[i] && !std::isnan(static_cast<const float*>(buffer_.raw())[i])) return false;
    return true;
  }

 private:
  View matrix(std::int64_t rows, std::int64_t row, const std::vector<std::int64_t>& shape) {
    view_rank_ = static_cast<int>(shape.size());
    if (view_rank_ == 1) return buffer_.view(DType::kF32, {row});
    if (view_rank_ == 2) return buffer_.view(DType::kF32, {rows, row});
    if (view_rank_ == 3) return buffer_.view(DType::kF32, {shape[0], shape[1], row});
    return buffer_.view(DType::kF32, {shape[0], shape[1], shape[2], row});
  }

  Buffer buffer_;
  View view_;
  int view_rank_ = 0;
};

// i32 [shape] with these values in row-major order.
class IntTensor {
 public:
  IntTensor(Shape shape, const std::vector<std::int32_t>& values)
      : buffer_(std::max<std::int64_t>(static_cast<std::int64_t>(values.size()), 1) * 4),
        view_(buffer_.view(DType::kI32, shape)) {
    std::copy(values.begin(), values.end(), static_cast<std::int32_t*>(buffer_.raw()));
  }
  operator ConstView() const { return view_; }

 private:
  Buffer buffer_;
  View view_;
};

// u8 [bytes] of NaN patterns: a workspace must not be read before it is written.
class Workspace {
 public:
  explicit Workspace(std::int64_t bytes) : buffer_(bytes) {
    std::fill_n(static_cast<std::uint8_t*>(buffer_.raw()), buffer_.bytes(), std::uint8_t{0xFF});
    view_ = buffer_.view(DType::kU8, {bytes});
  }
  operator const View&() const { return view_; }

 private:
  Buffer buffer_;
  View view_;
};

// The elements of an f32 view in row-major order.
inline std::vector<double> values(const ConstView& view) {
  std::vector<double> result;
  for (const std::int64_t offset : offsets(view)) result.push_back(view.data<float>()[offset]);
  return result;
}

// Every element within tolerance * (1 + |wanted|); infinities must be equal.
inline void expect_close(const ConstView& got, const std::vector<double>& wanted, double tolerance,
                         const char* what) {
  const std::vector<double> have = values(got);
  ASSERT_EQ(have.size(), wanted.size()) << what;
  for (std::size_t i = 0; i < have.size(); ++i) {
    if (have[i] == wanted[i]) continue;
    ASSERT_LE(std::abs(have[i] - wanted[i]), tolerance * (1 + std::abs(wanted[i])))
        << what << " at " << i << ": " << have[i] << ", should be " << wanted[i];
  }
}

inline void expect_same_bits(const ConstView& a, const ConstView& b, const char* what) {
  const std::vector<double> left = values(a), right = values(b);
  ASSERT_EQ(left.size(), right.size());
  for (std::size_t i = 0; i < left.size(); ++i) ASSERT_EQ(left[i], right[i]) << what << " at " << i;
}

}  // namespace terroir::test
