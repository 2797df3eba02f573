// Speed of the heavy CPU kernels at the shapes of a 124M Llama (hidden 768, 12 heads of 64, intermediate
// 2048, vocabulary 50304). GFLOP/s count multiplications and additions; causal attention counts only what is
// visible.
//
//   bench_kernels [--benchmark_filter=...]      the last argument of each name is the number of threads
#include <benchmark/benchmark.h>

#include "kernels/attention/attention.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/matmul/matmul.h"
#include "tests/bench/bench_tensor.h"

namespace terroir {
namespace {

void set_gflops(benchmark::State& state, double flops) {
  state.counters["GFLOP/s"] =
      benchmark::Counter(flops * 1e-9 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

// m, n, k, kind (0: x w^T, 1: dy w, 2: dy^T x accumulated), threads
void matmul_at(benchmark::State& state) {
  const std::int64_t m = state.range(0), n = state.range(1), k = state.range(2), kind = state.range(3);
  const MatmulOptions options = {.transpose_a = kind == 2, .transpose_b = kind == 0, .accumulate = kind == 2};
  const Tensor a(kind == 2 ? Shape{k, m} : Shape{m, k}), b(kind == 0 ? Shape{n, k} : Shape{k, n}), c({m, n});
  OpContext ctx = context(state.range(4));
  for (auto _ : state) matmul(ctx, a.view, b.view, c.view, options);
  set_gflops(state, 2.0 * static_cast<double>(m * n * k));
}

void matmul_shapes(benchmark::internal::Benchmark* benchmark) {
  for (const std::int64_t num_threads : {1, 2}) {
    for (const std::int64_t n : {768, 2304, 4096}) benchmark->Args({1024, n, 768, 0, num_threads});
    benchmark->Args({1024, 768, 2048, 0, num_threads});
    benchmark->Args({1024, 768, 4096, 1, num_threads});
    benchmark->Args({2048, 768, 1024, 2, num_threads})->Args({768, 2048, 1024, 2, num_threads});
    benchmark->Args({512, 50304, 768, 0, num_threads})->Args({512, 768, 50304, 1, num_threads});
    benchmark->Args({50304, 768, 512, 2, num_threads})->Args({50304, 768, 256, 2, num_threads});
    benchmark->Args({64, 64, 256, 0, num_threads})->Args({1, 2048, 768, 0, num_threads});
  }
}
BENCHMARK(matmul_at)->Apply(matmul_shapes)->UseRealTime()->Unit(benchmark::kMicrosecond);

// One causal document per batch item. q, k, v are pieces of one fused activation, as in the model.
struct AttentionProblem {
  std::int64_t batch, num_tokens, num_q_heads, num_kv_heads, head_size;
  Tensor fused{{batch * num_tokens, (num_q_heads + 2 * num_kv_heads) * head_size}};
  Tensor dfused{{batch * num_tokens, (num_q_heads + 2 * num_kv_heads) * head_size}};
  Tensor o{{batch, num_tokens, num_q_heads, head_size}}, dout{{batch, num_tokens, num_q_heads, head_size}};
  Tensor lse{{batch, num_q_heads, num_tokens}};
  Buffer positions{batch * num_tokens * 4}, documents{batch * num_tokens * 4};

  View piece(const Tensor& from, std::int64_t first, std::int64_t count) const {
    return from.view.slice(1, first * head_size, (first + count) * head_size)
        .split(1, head_size)
        .split(0, num_tokens);
  }
  AttentionInputs inputs() const {
    const View position = positions.view(DType::kI32, {batch, num_tokens});
    const View document = documents.view(DType::kI32, {batch, num_tokens});
    for (std::int64_t i = 0; i < batch * num_tokens; ++i)
      position.data<std::int32_t>()[i] = static_cast<std::int32_t>(i % num_tokens);
    return {.q = piece(fused, 0, num_q_heads),
            .k = piece(fused, num_q_heads, num_kv_heads),
            .v = piece(fused, num_q_heads + num_kv_heads, num_kv_heads),
            .positions_q = position,
            .positions_k = position,
            .documents_q = document,
            .documents_k = document,
            .options = {.scale = 0.125F, .q_heads_per_kv = num_q_heads / num_kv_heads}};
  }
  // Of `products` matrix products over the visible pairs of tokens.
  double flops(double products) const {
    return products * static_cast<double>(batch * num_q_heads * head_size * num_tokens * (num_tokens + 1));
  }
};

void attention_forward_at(benchmark::State& state) {
  const AttentionProblem p = {state.range(0), state.range(1), state.range(2), state.range(3), state.range(4)};
  const AttentionInputs inputs = p.inputs();
  OpContext ctx = context(state.range(5));
  for (auto _ : state) attention_forward(ctx, {inputs, p.o.view, p.lse.view});
  set_gflops(state, p.flops(2));
}

void attention_backward_at(benchmark::State& state) {
  const AttentionProblem p = {state.range(0), state.range(1), state.range(2), state.range(3), state.range(4)};
  const AttentionInputs inputs = p.inputs();
  OpContext ctx = context(state.range(5));
  attention_forward(ctx, {inputs, p.o.view, p.lse.view});
  const Buffer workspace(attention_backward_workspace_bytes(
      {inputs.q.size(0), p.num_tokens, p.num_q_heads, p.num_tokens, p.head_size}, ctx.num_threads));
  const AttentionBackwardArgs args = {.inputs = inputs,
                                      .o = p.o.view,
                                      .lse = p.lse.view,
                                      .dout = p.dout.view,
                                      .dq = p.piece(p.dfused, 0, p.num_q_heads),
                                      .dk = p.piece(p.dfused, p.num_q_heads, p.num_kv_heads),
                                      .dv = p.piece(p.dfused, p.num_q_heads + p.num_kv_heads, p.num_kv_heads),
                                      .workspace = workspace.view(DType::kU8, {workspace.bytes()})};
  for (auto _ : state) attention_backward(ctx, args);
  set_gflops(state, p.flops(5));
}

void attention_shapes(benchmark::internal::Benchmark* benchmark) {
  for (const std::int64_t num_threads : {1, 2})
    benchmark->Args({4, 256, 12, 12, 64, num_threads})
        ->Args({1, 1024, 12, 12, 64, num_threads})
        ->Args({1, 1024, 12, 4, 64, num_threads})
        ->Args({1, 1024, 8, 2, 128, num_threads});
}
BENCHMARK(attention_forward_at)->Apply(attention_shapes)->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(attention_backward_at)->Apply(attention_shapes)->UseRealTime()->Unit(benchmark::kMicrosecond);

// chunk tokens, gradients (0 or 1), threads
void linear_cross_entropy_at(benchmark::State& state) {
  constexpr std::int64_t kTokens = 1024, kHidden = 768, kVocab = 50304;
  const Tensor x({kTokens, kHidden}), w({kVocab, kHidden}), loss({kTokens}), dx({kTokens, kHidden}),
      dw({kVocab, kHidden});
  const Buffer targets(kTokens * 4);
  const Buffer workspace(linear_cross_entropy_workspace_bytes(state.range(0), kVocab, kHidden));
  const bool gradients = state.range(1) != 0;
  const LinearCrossEntropyArgs args = {.x = x.view,
                                       .w = w.view,
                                       .targets = targets.view(DType::kI32, {kTokens}),
                                       .loss = loss.view,
                                       .dx = gradients ? dx.view : View(),
                                       .dw = gradients ? dw.view : View(),
                                       .workspace = workspace.view(DType::kU8, {workspace.bytes()}),
                                       .chunk_tokens = state.range(0)};
  OpContext ctx = context(state.range(2));
  for (auto _ : state) linear_cross_entropy(ctx, args);
  set_gflops(state, (gradients ? 6.0 : 2.0) * kTokens * kHidden * kVocab);
}
BENCHMARK(linear_cross_entropy_at)
    ->ArgsProduct({{128, 256, 320, 512, 1024}, {1}, {1, 2}})
    ->Args({256, 0, 2})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace terroir

BENCHMARK_MAIN();
