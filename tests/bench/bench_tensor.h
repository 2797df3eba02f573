// Tensors and contexts for kernel benchmarks.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <random>

#include "kernels/tensor/buffer.h"
#include "kernels/tensor/op_context.h"

namespace terroir {

using Shape = std::initializer_list<std::int64_t>;

// f32 [shape], uniform in [-1, 1).
struct Tensor {
  Buffer buffer;
  View view;

  explicit Tensor(Shape shape) {
    std::int64_t count = 1;
    for (const std::int64_t size : shape) count *= size;
    buffer = Buffer(count * 4);
    view = buffer.view(DType::kF32, shape);
    std::minstd_rand generator(1);
    for (std::int64_t i = 0; i < count; ++i)
      view.data<float>()[i] = static_cast<float>(generator() % 2048) / 1024.0F - 1;
  }
};

inline OpContext context(std::int64_t num_threads) {
  OpContext ctx;
  ctx.num_threads = static_cast<int>(num_threads);
  return ctx;
}

}  // namespace terroir
