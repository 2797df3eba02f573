// Speed of the memory-bound CPU kernels at the shapes of a 124M Llama with 1024 tokens (hidden 768, 12 heads
// of 64, intermediate 2048). GB/s count each tensor once for every time the op must read or write it; the
// last argument of each name is the number of threads. Compare with `copy`, which does nothing else.
#include <benchmark/benchmark.h>

#include "kernels/adamw/adamw.h"
#include "kernels/embedding/embedding.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/squared_norm/squared_norm.h"
#include "kernels/swiglu/swiglu.h"
#include "kernels/tensor/elementwise.h"
#include "tests/bench/bench_tensor.h"

namespace terroir {
namespace {

constexpr std::int64_t kTokens = 1024, kHidden = 768, kIntermediate = 2048, kHeads = 12, kVocab = 50304;
constexpr std::int64_t kParameters = 8 << 20;

void set_gbytes(benchmark::State& state, std::int64_t bytes) {
  state.counters["GB/s"] =
      benchmark::Counter(static_cast<double>(bytes) * 1e-9 * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate);
}

void copy_at(benchmark::State& state) {
  const Tensor from({kParameters}), to({kParameters});
  OpContext ctx = context(state.range(0));
  for (auto _ : state) copy(ctx, from.view, to.view);
  set_gbytes(state, 2 * from.view.bytes());
}

void cast_to_bf16_at(benchmark::State& state) {
  const Tensor from({kParameters});
  const Buffer to(kParameters * 2);
  OpContext ctx = context(state.range(0));
  for (auto _ : state) cast(ctx, from.view, to.view(DType::kBF16, {kParameters}));
  set_gbytes(state, from.view.bytes() + to.bytes());
}

void add_at(benchmark::State& state) {
  const Tensor a({kParameters}), b({kParameters}), out({kParameters});
  OpContext ctx = context(state.range(0));
  for (auto _ : state) add(ctx, a.view, b.view, out.view);
  set_gbytes(state, 3 * a.view.bytes());
}

void rms_norm_forward_at(benchmark::State& state) {
  const Tensor x({kTokens, kHidden}), delta({kTokens, kHidden}), weight({kHidden}), y({kTokens, kHidden}),
      residual({kTokens, kHidden}), rstd({kTokens});
  OpContext ctx = context(state.range(0));
  for (auto _ : state)
    rms_norm_forward(ctx, {x.view, delta.view, weight.view, 1e-5F, residual.view, y.view, rstd.view});
  set_gbytes(state, 4 * x.view.bytes());
}

void rms_norm_backward_at(benchmark::State& state) {
  const Tensor dy({kTokens, kHidden}), dresidual({kTokens, kHidden}), residual({kTokens, kHidden}),
      weight({kHidden}), rstd({kTokens}), dx({kTokens, kHidden}), dweight({kHidden});
  const Buffer workspace(rms_norm_backward_workspace(kTokens, kHidden));
  OpContext ctx = context(state.range(0));
  for (auto _ : state)
    rms_norm_backward(ctx, {dy.view, dresidual.view, residual.view, weight.view, rstd.view, dx.view,
                            dweight.view, workspace.view(DType::kU8, {workspace.bytes()})});
  set_gbytes(state, 4 * dy.view.bytes());
}

void rope_at(benchmark::State& state) {
  const Tensor x({kTokens, kHeads, kHidden / kHeads}), table({kTokens, kHidden / kHeads});
  const Buffer positions(kTokens * 4);
  for (std::int64_t t = 0; t < kTokens; ++t)
    positions.view(DType::kI32, {kTokens}).data<std::int32_t>()[t] = static_cast<std::int32_t>(t);
  rope_table(rope_inverse_frequencies(10000, kHidden / kHeads, {}), table.view);
  OpContext ctx = context(state.range(0));
  for (auto _ : state) rope_apply(ctx, {x.view, positions.view(DType::kI32, {kTokens}), table.view});
  set_gbytes(state, 2 * x.view.bytes());
}

void swiglu_forward_at(benchmark::State& state) {
  const Tensor fused({kTokens, 2 * kIntermediate}), out({kTokens, kIntermediate});
  const View gate = fused.view.slice(1, 0, kIntermediate),
             up = fused.view.slice(1, kIntermediate, 2 * kIntermediate);
  OpContext ctx = context(state.range(0));
  for (auto _ : state) swiglu_forward(ctx, {gate, up, out.view});
  set_gbytes(state, 3 * out.view.bytes());
}

void swiglu_backward_at(benchmark::State& state) {
  const Tensor dout({kTokens, kIntermediate}), fused({kTokens, 2 * kIntermediate}),
      dfused({kTokens, 2 * kIntermediate});
  const auto gate = [](const View& both) { return both.slice(1, 0, kIntermediate); };
  const auto up = [](const View& both) { return both.slice(1, kIntermediate, 2 * kIntermediate); };
  OpContext ctx = context(state.range(0));
  for (auto _ : state)
    swiglu_backward(ctx, {dout.view, gate(fused.view), up(fused.view), gate(dfused.view), up(dfused.view)});
  set_gbytes(state, 5 * dout.view.bytes());
}

void embedding_backward_at(benchmark::State& state) {
  const Tensor dout({kTokens, kHidden}), dtable({kVocab, kHidden});
  const Buffer ids(kTokens * 4);
  std::minstd_rand generator(1);
  for (std::int64_t t = 0; t < kTokens; ++t)
    ids.view(DType::kI32, {kTokens}).data<std::int32_t>()[t] =
        static_cast<std::int32_t>(generator() % kVocab);
  OpContext ctx = context(state.range(0));
  for (auto _ : state) embedding_backward(ctx, {ids.view(DType::kI32, {kTokens}), dout.view, 0, dtable.view});
  set_gbytes(state, 3 * dout.view.bytes());
}

void adamw_at(benchmark::State& state) {
  const Tensor params({kParameters}), grads({kParameters}), exp_avg({kParameters}), exp_avg_sq({kParameters});
  OpContext ctx = context(state.range(0));
  fill(ctx, exp_avg_sq.view, 1);
  const StepScalars scalars = {.learning_rate = 1e-4F};
  for (auto _ : state)
    adamw(ctx, {params.view, grads.view, exp_avg.view, exp_avg_sq.view, View(), &scalars, AdamWOptions()});
  set_gbytes(state, 7 * params.view.bytes());
}

void squared_norm_at(benchmark::State& state) {
  const Tensor x({kParameters});
  const ConstView list[] = {x.view};
  const Buffer sum(8), flag(4);
  OpContext ctx = context(state.range(0));
  for (auto _ : state)
    squared_norm(ctx, {list, sum.view(DType::kF64, {1}), flag.view(DType::kI32, {1}), View()});
  set_gbytes(state, x.view.bytes());
}

void threads(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMicrosecond);
}
BENCHMARK(copy_at)->Apply(threads);
BENCHMARK(cast_to_bf16_at)->Apply(threads);
BENCHMARK(add_at)->Apply(threads);
BENCHMARK(rms_norm_forward_at)->Apply(threads);
BENCHMARK(rms_norm_backward_at)->Apply(threads);
BENCHMARK(rope_at)->Apply(threads);
BENCHMARK(swiglu_forward_at)->Apply(threads);
BENCHMARK(swiglu_backward_at)->Apply(threads);
BENCHMARK(embedding_backward_at)->Apply(threads);
BENCHMARK(adamw_at)->Apply(threads);
BENCHMARK(squared_norm_at)->Apply(threads);

}  // namespace
}  // namespace terroir
