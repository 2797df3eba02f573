// The checks an op's public function makes before it hands its arguments to a backend, so that a wrong shape,
// dtype or device is a sentence that names the op and the tensor, and nothing has been written yet.
#pragma once

#include <initializer_list>

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

constexpr std::int64_t kAnySize = -1;

// Every function throws ContractError. A view of no elements may have a null pointer; any other must have
// memory.
class ArgumentCheck {
 public:
  ArgumentCheck(const char* op, const OpContext& ctx) : op_(op), device_(ctx.stream.device()) {}

  // `view` has this dtype, this shape (kAnySize fits every size) and lives on the context's device.
  void tensor(const char* name, const ConstView& view, DType dtype,
              std::initializer_list<std::int64_t> shape) const;
  // As above; its shape is that of `other`.
  void same_shape(const char* name, const ConstView& view, DType dtype, const ConstView& other) const;
  // u8[n], contiguous, n >= `bytes`, on the context's device. Not looked at if `bytes` is 0.
  void workspace(const ConstView& view, std::int64_t bytes) const;
  // Further conditions, with the op's name before the message.
  template <class... Args>
  void require(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
    if (!condition) fail(fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  void memory(const char* name, const ConstView& view, DType dtype) const;
  [[noreturn]] void fail(const std::string& message) const;

  const char* op_;
  Device device_;
};

}  // namespace terroir
