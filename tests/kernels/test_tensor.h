// Tensors for kernel tests: owned memory on the device under test, strided on request, random or poisoned
// contents, comparison with f64.
//
// The device is the CPU, or with TERROIR_TEST_DEVICE=cuda the first GPU of the CUDA module (or of the module
// that TERROIR_CUDA_MODULE names): the same tests run on both.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/tensor/buffer.h"
#include "kernels/tensor/device.h"
#include "tests/kernels/test_device.h"

namespace terroir::test {

using Shape = std::initializer_list<std::int64_t>;

inline OpContext context(int num_threads = 1) {
  OpContext ctx;
  ctx.stream = test_stream();
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

// The `bytes` from `data` of the device under test, once everything enqueued is complete.
inline std::vector<std::uint8_t> bytes_at(const void* data, std::int64_t bytes) {
  std::vector<std::uint8_t> host(static_cast<std::size_t>(bytes));
  transfer(test_stream(), ConstView(data, DType::kU8, {bytes}, test_device()),
           View(host.data(), DType::kU8, {bytes}));
  synchronize(test_stream());
  return host;
}

inline double value_at(const std::uint8_t* memory, DType dtype) {
  const auto as = [&](auto value) {
    std::memcpy(&value, memory, sizeof(value));
    return value;
  };
  switch (dtype) {
    case DType::kF32:
      return as(float());
    case DType::kF64:
      return as(double());
    case DType::kI32:
      return as(std::int32_t());
    case DType::kI64:
      return static_cast<double>(as(std::int64_t()));
    case DType::kU8:
      return *memory;
    case DType::kBF16: {
      const std::uint32_t bits = std::uint32_t{as(std::uint16_t())} << 16;
      float value;
      std::memcpy(&value, &bits, 4);
      return value;
    }
  }
  return 0;
}

// The elements of a view of any dtype in row-major order.
inline std::vector<double> values(const ConstView& view) {
  std::vector<double> result;
  if (view.numel() == 0) return result;
  const std::vector<std::int64_t> at = offsets(view);
  const std::int64_t size = dtype_bytes(view.dtype());
  const auto memory = bytes_at(view.raw(), (*std::max_element(at.begin(), at.end()) + 1) * size);
  for (const std::int64_t offset : at)
    result.push_back(value_at(memory.data() + offset * size, view.dtype()));
  return result;
}

// Nearest bf16, ties to even.
inline float rounded_to_bf16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000U;
  std::memcpy(&value, &bits, 4);
  return value;
}

// [shape] of f32 or bf16 whose innermost rows lie `pad` elements apart. All memory, gaps included, starts as
// NaN: an op that reads what it should not, or leaves an element unwritten, shows.
class Tensor {
 public:
  explicit Tensor(Shape shape, std::int64_t pad = 0, DType dtype = DType::kF32) : dtype_(dtype) {
    std::vector<std::int64_t> padded(shape);
    const std::int64_t row = padded.back();
    std::int64_t rows = 1;
    for (std::size_t dim = 0; dim + 1 < padded.size(); ++dim) rows *= padded[dim];
    buffer_ = Buffer(std::max<std::int64_t>(rows * (row + pad), 1) * dtype_bytes(dtype), test_device());
    view_ = matrix(rows, row + pad, padded).slice(view_rank_ - 1, 0, row);
    upload(std::vector<std::uint8_t>(static_cast<std::size_t>(buffer_.bytes()), 0xFF));
  }
  const View& view() const { return view_; }
  operator const View&() const { return view_; }

  // Uniform in [-1, 1) times `scale`; a bf16 tensor gets these values rounded.
  Tensor& randomize(std::uint32_t seed, float scale = 1) {
    std::mt19937 generator(seed);
    std::vector<float> random(static_cast<std::size_t>(view_.numel()));
    for (float& value : random) value = scale * (static_cast<float>(generator() >> 8) * 0x1p-23F - 1);
    return assign(random);
  }
  // The elements in row-major order, rounded if the tensor is bf16.
  Tensor& assign(const std::vector<float>& elements) {
    auto memory = bytes_at(buffer_.raw(), buffer_.bytes());
    std::size_t i = 0;
    for (const std::int64_t offset : offsets(view_)) {
      if (view_.numel() == 0) break;
      float value = elements[i++];
      std::uint8_t* to = memory.data() + offset * dtype_bytes(dtype_);
      if (dtype_ == DType::kF32) {
        std::memcpy(to, &value, 4);
      } else {
        value = rounded_to_bf16(value);
        std::memcpy(to, reinterpret_cast<const std::uint8_t*>(&value) + 2, 2);
      }
    }
    upload(memory);
    return *this;
  }
  // NaN in the gaps between rows: nothing was written there.
  bool gaps_untouched() const {
    const std::int64_t size = dtype_bytes(dtype_);
    const auto memory = bytes_at(buffer_.raw(), buffer_.bytes());
    std::vector<char> used(memory.size() / static_cast<std::size_t>(size));
    for (const std::int64_t offset : offsets(view_)) used[static_cast<std::size_t>(offset)] = 1;
    for (std::size_t i = 0; i < used.size(); ++i)
      if (!used[i] && !std::isnan(value_at(memory.data() + static_cast<std::int64_t>(i) * size, dtype_)))
        return false;
    return true;
  }

 private:
  View matrix(std::int64_t rows, std::int64_t row, const std::vector<std::int64_t>& shape) {
    view_rank_ = static_cast<int>(shape.size());
    if (view_rank_ == 1) return buffer_.view(dtype_, {row});
    if (view_rank_ == 2) return buffer_.view(dtype_, {rows, row});
    if (view_rank_ == 3) return buffer_.view(dtype_, {shape[0], shape[1], row});
    return buffer_.view(dtype_, {shape[0], shape[1], shape[2], row});
  }
  void upload(const std::vector<std::uint8_t>& memory) {
    transfer(test_stream(), ConstView(memory.data(), DType::kU8, {buffer_.bytes()}),
             buffer_.view(DType::kU8, {buffer_.bytes()}));
    synchronize(test_stream());
  }

  DType dtype_;
  Buffer buffer_;
  View view_;
  int view_rank_ = 0;
};

// i32 [shape] with these values in row-major order.
class IntTensor {
 public:
  IntTensor(Shape shape, const std::vector<std::int32_t>& values)
      : buffer_(std::max<std::int64_t>(static_cast<std::int64_t>(values.size()), 1) * 4, test_device()),
        view_(buffer_.view(DType::kI32, shape)) {
    transfer(test_stream(), ConstView(values.data(), DType::kI32, {view_.numel()}),
             view_.reshape({view_.numel()}));
    synchronize(test_stream());
  }
  operator ConstView() const { return view_; }

 private:
  Buffer buffer_;
  View view_;
};

// u8 [bytes] of NaN patterns: a workspace must not be read before it is written.
class Workspace {
 public:
  explicit Workspace(std::int64_t bytes)
      : buffer_(bytes, test_device()), view_(buffer_.view(DType::kU8, {bytes})) {
    const std::vector<std::uint8_t> poison(static_cast<std::size_t>(bytes), 0xFF);
    transfer(test_stream(), ConstView(poison.data(), DType::kU8, {bytes}), view_);
    synchronize(test_stream());
  }
  operator const View&() const { return view_; }

 private:
  Buffer buffer_;
  View view_;
};

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
