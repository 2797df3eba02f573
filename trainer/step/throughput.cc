#include "trainer/step/throughput.h"

#include <algorithm>
#include <chrono>

#include "kernels/matmul/matmul.h"
#include "kernels/tensor/buffer.h"
#include "kernels/tensor/elementwise.h"

namespace terroir {

double flops_per_token(const ModelConfig& config, std::int64_t sequence_length) {
  const auto hidden = static_cast<double>(config.hidden_size);
  const auto query = static_cast<double>(config.query_size()),
             kv = static_cast<double>(config.key_value_size());
  const double layer = hidden * (2 * query + 2 * kv + 3 * static_cast<double>(config.intermediate_size));
  const auto layers = static_cast<double>(config.num_hidden_layers);
  const double weights = layers * layer + hidden * static_cast<double>(config.vocab_size);
  return 6 * weights + 6 * layers * query * static_cast<double>(sequence_length);
}

double measure_peak_flops(OpContext& ctx, Communicator& control) {
  constexpr std::int64_t kSize = 1024;
  constexpr int kWindows = 4;
  constexpr double kWindowSeconds = 0.05;
  const Buffer memory(3 * kSize * kSize * 4);
  const auto matrix = [&](std::int64_t i) {
    return memory.view(DType::kF32, {kSize, kSize}, i * kSize * kSize * 4);
  };
  fill(ctx, matrix(0), 1);
  fill(ctx, matrix(1), 1);
  matmul(ctx, matrix(0), matrix(1), matrix(2));  // warm up
  double best = 0;
  for (int window = 0; window < kWindows; ++window) {
    control.barrier(ctx.stream, "peak measurement");
    const auto begin = std::chrono::steady_clock::now();
    double flops = 0, elapsed = 0;
    while (elapsed < kWindowSeconds) {
      matmul(ctx, matrix(0), matrix(1), matrix(2));
      flops += 2.0 * kSize * kSize * kSize;
      elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
    double rate = flops / elapsed;
    control.all_reduce(View(&rate, DType::kF64, {1}), ReduceOp::kSum, ctx.stream, "peak measurement").wait();
    best = std::max(best, rate);
  }
  return best;
}

}  // namespace terroir
