#include "kernels/tensor/argument_check.h"

#include <algorithm>

namespace terroir {

namespace {

bool fits(const ConstView& view, std::initializer_list<std::int64_t> shape) {
  if (view.rank() != static_cast<int>(shape.size())) return false;
  int dim = 0;
  return std::all_of(shape.begin(), shape.end(), [&](std::int64_t size) {
    const std::int64_t have = view.size(dim++);
    return size == kAnySize || size == have;
  });
}

std::string shape_text(std::initializer_list<std::int64_t> shape) {
  std::string text;
  for (const std::int64_t size : shape)
    text += (text.empty() ? "" : ", ") + (size == kAnySize ? "*" : std::to_string(size));
  return text;
}

}  // namespace

void ArgumentCheck::tensor(const char* name, const ConstView& view, DType dtype,
                           std::initializer_list<std::int64_t> shape) const {
  if (!fits(view, shape))
    fail(
        fmt::format("{} is {}, must be {}[{}]", name, view.describe(), dtype_name(dtype), shape_text(shape)));
  memory(name, view, dtype);
}

void ArgumentCheck::same_shape(const char* name, const ConstView& view, DType dtype,
                               const ConstView& other) const {
  require(view.same_shape(other), "{} is {}, its shape must be that of {}", name, view, other);
  memory(name, view, dtype);
}

void ArgumentCheck::compute_dtype(const char* name, const ConstView& view) const {
  require(view.dtype() == DType::kF32 || view.dtype() == DType::kBF16,
          "{} is {}, its dtype must be f32 or bf16", name, view);
}

void ArgumentCheck::workspace(const ConstView& view, std::int64_t bytes) const {
  if (bytes == 0) return;
  require(view.rank() == 1 && view.numel() >= bytes, "workspace is {}, must be u8[{}] or longer", view,
          bytes);
  memory("workspace", view, DType::kU8);
}

void ArgumentCheck::memory(const char* name, const ConstView& view, DType dtype) const {
  require(view.dtype() == dtype, "{} is {}, its dtype must be {}", name, view, dtype_name(dtype));
  require(view.raw() != nullptr || view.numel() == 0, "{} is {} without memory", name, view);
  require(view.device() == device_, "{} lives on another device than the context's stream", name);
}

void ArgumentCheck::fail(const std::string& message) const {
  throw ContractError(fmt::format("{}: {}", op_, message));
}

}  // namespace terroir
