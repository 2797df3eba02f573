// Arrays of plain data on the device under test.
#pragma once

#include <cstring>
#include <vector>

#include "tests/kernels/test_tensor.h"

namespace terroir::test {

template <class T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& values)
      : count_(static_cast<std::int64_t>(values.size())), buffer_(bytes(), test_device()) {
    transfer(test_stream(), ConstView(values.data(), DType::kU8, {bytes()}),
             buffer_.view(DType::kU8, {bytes()}));
    synchronize(test_stream());
  }
  // Device memory.
  T* data() const { return static_cast<T*>(buffer_.raw()); }
  View view() const { return view({count_}); }
  View view(Shape shape) const { return buffer_.view(dtype_of<T>(), shape); }
  // Once everything enqueued is complete.
  std::vector<T> values() const {
    const auto memory = bytes_at(buffer_.raw(), bytes());
    std::vector<T> result(static_cast<std::size_t>(count_));
    std::memcpy(result.data(), memory.data(), memory.size());
    return result;
  }

 private:
  std::int64_t bytes() const { return count_ * static_cast<std::int64_t>(sizeof(T)); }
  std::int64_t count_;
  Buffer buffer_;
};

}  // namespace terroir::test
