// Owners of C handles: one type per library handle, released exactly once, never copied.
#pragma once

#include <unistd.h>

#include <utility>

#include "base/error.h"

namespace terroir {

// Traits has `using type`, `static type invalid()`, `static void release(type) noexcept`.
template <class Traits>
class Handle {
 public:
  using type = typename Traits::type;
  Handle() = default;
  explicit Handle(type value) : value_(value) {}
  Handle(Handle&& other) noexcept : value_(std::exchange(other.value_, Traits::invalid())) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) {
      reset();
      value_ = std::exchange(other.value_, Traits::invalid());
    }
    return *this;
  }
  ~Handle() { reset(); }

  type get() const { return value_; }
  explicit operator bool() const { return value_ != Traits::invalid(); }
  // Gives the handle up without releasing it.
  type release() { return std::exchange(value_, Traits::invalid()); }
  void reset() noexcept {
    if (value_ != Traits::invalid()) Traits::release(std::exchange(value_, Traits::invalid()));
  }

 private:
  type value_ = Traits::invalid();
};

struct FileDescriptorTraits {
  using type = int;
  static type invalid() { return -1; }
  static void release(type fd) noexcept { ::close(fd); }
};
using FileDescriptor = Handle<FileDescriptorTraits>;

}  // namespace terroir
