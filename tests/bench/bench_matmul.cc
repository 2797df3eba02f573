// Our matrix products against oneDNN's sgemm, in turns, so that whatever else the machine does disturbs both.
// Counters: GFLOP/s of each by its median time, and `ratio`, ours to oneDNN's; `cpu_ratio`, the same by CPU
// time, does not see what waits beside other work (with several threads only under OMP_WAIT_POLICY=passive:
// by default they wait by counting).
//
//   bench_matmul [--benchmark_filter=...]     names end in m/n/k/kind/threads; kinds as in `kKinds` below
//   DNNL_MAX_CPU_ISA=AVX2 bench_matmul AVX2   both on AVX2 (the argument is one of Highway's target names)
#include <benchmark/benchmark.h>
#include <hwy/highway.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <string_view>
#include <vector>

#include "kernels/matmul/matmul.h"
#include "tests/bench/bench_tensor.h"

namespace terroir {
namespace {

// 0: x w^T, 1: dy w, 2: dy^T x accumulated
constexpr MatmulOptions kKinds[] = {{.transpose_b = true}, {}, {.transpose_a = true, .accumulate = true}};

void onednn(const View& a, const View& b, const View& c, const MatmulOptions& options, std::int64_t k) {
  if (dnnl_sgemm(options.transpose_a ? 'T' : 'N', options.transpose_b ? 'T' : 'N', c.size(0), c.size(1), k, 1,
                 a.data<float>(), a.stride(0), b.data<float>(), b.stride(0), options.accumulate ? 1 : 0,
                 c.data<float>(), c.stride(0)) != dnnl_success)
    std::abort();
}

double now(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// What each call took, by the clock on the wall and in CPU time of the process.
struct Times {
  std::vector<double> wall, cpu;

  void measure(const auto& work) {
    const double wall_begin = now(CLOCK_MONOTONIC), cpu_begin = now(CLOCK_PROCESS_CPUTIME_ID);
    work();
    cpu.push_back(now(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin);
    wall.push_back(now(CLOCK_MONOTONIC) - wall_begin);
  }
};

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void matmul_against_onednn(benchmark::State& state) {
  const std::int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const MatmulOptions& options = kKinds[state.range(3)];
  const Tensor a(options.transpose_a ? Shape{k, m} : Shape{m, k}),
      b(options.transpose_b ? Shape{n, k} : Shape{k, n});
  const Tensor c({m, n});
  OpContext ctx = context(state.range(4));
  omp_set_num_threads(ctx.num_threads);
  const auto ours = [&] { matmul(ctx, a.view, b.view, c.view, options); };
  const auto theirs = [&] { onednn(a.view, b.view, c.view, options, k); };
  ours();
  theirs();
  Times our_times, their_times;
  for (auto _ : state) {
    our_times.measure(ours);
    their_times.measure(theirs);
    state.SetIterationTime(our_times.wall.back() + their_times.wall.back());
  }
  const double gflop = 2e-9 * static_cast<double>(m) * static_cast<double>(n * k);
  const double our_time = median(our_times.wall), their_time = median(their_times.wall);
  state.counters["terroir"] = gflop / our_time;
  state.counters["oneDNN"] = gflop / their_time;
  state.counters["ratio"] = their_time / our_time;
  state.counters["cpu_ratio"] = median(their_times.cpu) / median(our_times.cpu);
}

// The products of a 124M Llama with 1024 tokens and of a wider one, and what is small or thin.
void shapes(benchmark::internal::Benchmark* benchmark) {
  for (const std::int64_t num_threads : {1, 2}) {
    for (const auto& [inputs, outputs] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {768, 768}, {768, 2304}, {768, 4096}, {2048, 768}, {2048, 2048}, {768, 50304}}) {
      benchmark->Args({1024, outputs, inputs, 0, num_threads});
      benchmark->Args({1024, inputs, outputs, 1, num_threads});
      benchmark->Args({outputs, inputs, 1024, 2, num_threads});
    }
    benchmark->Args({64, 64, 256, 0, num_threads})->Args({64, 64, 256, 1, num_threads});
    benchmark->Args({64, 64, 256, 2, num_threads})->Args({17, 4096, 768, 0, num_threads});
    benchmark->Args({1, 50304, 768, 0, num_threads})->Args({1, 2304, 768, 0, num_threads});
    benchmark->Args({4, 50304, 768, 0, num_threads})->Args({8, 50304, 768, 0, num_threads});
    benchmark->Args({1, 2304, 1024, 1, num_threads});
  }
}
BENCHMARK(matmul_against_onednn)->Apply(shapes)->UseManualTime()->Unit(benchmark::kMicrosecond);

// Restricts our kernels to one of Highway's targets.
void use_target(std::string_view name) {
  for (std::int64_t target = 1; target > 0; target <<= 1)
    if (hwy::TargetName(target) == name) hwy::SetSupportedTargetsForTest(target);
  hwy::GetChosenTarget().DeInit();
}

}  // namespace
}  // namespace terroir

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc > 1) terroir::use_target(argv[1]);
  benchmark::RunSpecifiedBenchmarks();
}
