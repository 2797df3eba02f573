#include "trainer/step/throughput.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "kernels/matmul/matmul.h"
#include "kernels/tensor/buffer.h"
#include "kernels/tensor/device.h"
#include "kernels/tensor/elementwise.h"

namespace terroir {

double flops_per_token(const ModelConfig& config, std::int64_t sequence_length, AttentionPairs pairs) {
  const auto hidden = static_cast<double>(config.hidden_size);
  const auto query = static_cast<double>(config.query_size()),
             kv = static_cast<double>(config.key_value_size());
  const double layer = hidden * (2 * query + 2 * kv + 3 * static_cast<double>(config.intermediate_size));
  const auto layers = static_cast<double>(config.num_hidden_layers);
  const double weights = layers * layer + hidden * static_cast<double>(config.vocab_size);
  const double attention = pairs == AttentionPairs::kAll ? 12 : 6;
  return 6 * weights + attention * layers * query * static_cast<double>(sequence_length);
}

namespace {

// Products of square matrices, one after another.
class Products {
 public:
  Products(OpContext& ctx, DType dtype, std::int64_t size)
      : ctx_(ctx), size_(size), memory_(3 * size * size * dtype_bytes(dtype), ctx.stream.device()) {
    for (std::int64_t i = 0; i < 3; ++i)
      matrices_[i] = memory_.view(dtype, {size, size}, i * size * size * dtype_bytes(dtype));
    fill(ctx_, matrices_[0], 1);
    fill(ctx_, matrices_[1], 1);
    flops_per_s(0);  // warm up
  }
  // Of at least one product, and as many as fit into `seconds`.
  double flops_per_s(double seconds) {
    const auto begin = std::chrono::steady_clock::now();
    double flops = 0, elapsed = 0;
    do {
      matmul(ctx_, matrices_[0], matrices_[1], matrices_[2]);
      synchronize(ctx_.stream);
      flops += flops_of_one();
      elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    } while (elapsed < seconds);
    return flops / elapsed;
  }
  double flops_of_one() const {
    const auto n = static_cast<double>(size_);
    return 2 * n * n * n;
  }

 private:
  OpContext& ctx_;
  std::int64_t size_;
  Buffer memory_;
  std::array<View, 3> matrices_;
};

// How wide matrices must be so that waiting for a product costs little beside it.
std::int64_t matrix_size(OpContext& ctx, DType dtype) {
  if (ctx.stream.device().kind == DeviceKind::kCpu) return 1024;
  constexpr double kLongEnough = 1e-3;
  std::int64_t size = 128;
  for (; size < 8192; size *= 2) {
    Products products(ctx, dtype, size);
    if (products.flops_of_one() / products.flops_per_s(0) >= kLongEnough) break;
  }
  return size;
}

}  // namespace

double measure_peak_flops(OpContext& ctx, DType dtype, Communicator& control) {
  constexpr int kWindows = 4;
  constexpr double kWindowSeconds = 0.05;
  Products products(ctx, dtype, matrix_size(ctx, dtype));
  double best = 0;
  for (int window = 0; window < kWindows; ++window) {
    control.barrier(ctx.stream, "peak measurement");
    double rate = products.flops_per_s(kWindowSeconds);
    control.all_reduce(View(&rate, DType::kF64, {1}), ReduceOp::kSum, ctx.stream, "peak measurement").wait();
    best = std::max(best, rate);
  }
  return best;
}

}  // namespace terroir
