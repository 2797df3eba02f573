#include "kernels/tensor/argument_check.h"

namespace terroir {

void ArgumentCheck::tensor(const char* name, const ConstView& view, DType dtype,
                           std::initializer_list<std::int64_t> shape) const {
  bool fits = view.rank() == static_cast<int>(shape.size());
  std::string wanted;
  int dim = 0;
  for (const std::int64_t size : shape) {
    fits = fits && (size == kAnySize || size == view.size(dim));
    wanted += (dim == 0 ? "" : ", ") + (size == kAnySize ? "*" : std::to_string(size));
    ++dim;
  }
  require(fits, "{} is {}, must be {}[{}]", name, view.describe(), dtype_name(dtype), wanted);
  memory(name, view, dtype);
}

void ArgumentCheck::same_shape(const char* name, const ConstView& view, DType dtype,
                               const ConstView& other) const {
  require(view.same_shape(other), "{} is {}, its shape must be that of {}", name, view.describe(),
          other.describe());
  memory(name, view, dtype);
}

void ArgumentCheck::workspace(const ConstView& view, std::int64_t bytes) const {
  if (bytes == 0) return;
  require(view.rank() == 1 && view.numel() >= bytes, "workspace is {}, must be u8[{}] or longer",
          view.describe(), bytes);
  memory("workspace", view, DType::kU8);
}

void ArgumentCheck::memory(const char* name, const ConstView& view, DType dtype) const {
  require(view.dtype() == dtype, "{} is {}, its dtype must be {}", name, view.describe(), dtype_name(dtype));
  require(view.raw() != nullptr || view.numel() == 0, "{} is {} without memory", name, view.describe());
  require(view.device() == device_, "{} lives on another device than the context's stream", name);
}

void ArgumentCheck::fail(const std::string& message) const {
  throw ContractError(fmt::format("{}: {}", op_, message));
}

}  // namespace terroir
