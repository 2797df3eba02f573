// The checks an op's public function makes before it hands its arguments to a backend, so that a wrong shape,
// dtype or device is a sentence that names the op and the tensor, and nothing has been written yet.
#pragma once

#include <concepts>
#include <initializer_list>
#include <string>
#include <utility>

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

namespace detail {
// What a message shows for a value: views as their descriptions.
template <class T>
requires(!std::derived_from<T, ConstView>) const T& printable(const T& value) { return value; }
inline std::string printable(const ConstView& view) { return view.describe(); }
}  // namespace detail

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
  // The dtype that an op computes with is f32 or bf16: asked of one view, of which the others then have to
  // be.
  void compute_dtype(const char* name, const ConstView& view) const;
  // u8[n], contiguous, n >= `bytes`, on the context's device. Not looked at if `bytes` is 0.
  void workspace(const ConstView& view, std::int64_t bytes) const;
  // Further conditions, with the op's name before the message. A view among `args` is printed as by
  // describe(), only if the condition fails: a check that passes allocates nothing.
  template <class... Args>
  void require(bool condition,
               fmt::format_string<decltype(detail::printable(std::declval<const Args&>()))...> format,
               const Args&... args) const {
    if (!condition) fail(fmt::format(format, detail::printable(args)...));
  }

 private:
  void memory(const char* name, const ConstView& view, DType dtype) const;
  [[noreturn]] void fail(const std::string& message) const;

  const char* op_;
  Device device_;
};

}  // namespace terroir
