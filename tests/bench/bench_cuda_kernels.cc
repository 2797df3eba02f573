// Every op of the CUDA backend on a GPU, at the sizes of a training step.
//
//   bench_cuda_kernels [--small] [--benchmark_filter=...] [--benchmark_out=FILE --benchmark_out_format=json]
//
// First the ceilings: a copy between device buffers and a large bf16 product. Then the ops, each with
//   TB/s      bytes it must move at least, each read or written once, over its time
//   TFLOP/s   operations over its time; of causal attention only what is visible
//   share     time that copies and products at the ceilings' rates would take, over its time
// --small: tiny sizes, each once, for the emulated GPU (tests/cuda_on_cpu): whether all of it runs. The
// module is found as `terroir` finds it. Exit status 1 if a benchmark failed, 2 for wrong arguments.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/tensor/cuda_module.h"
#include "tests/bench/cuda_cases.h"

namespace terroir::bench {
namespace {

constexpr double kTera = 1e12;

struct Counts {
  int run = 0, failed = 0;
};

void set_counters(benchmark::State& state, Bench& bench, const Work& work, double seconds) {
  if (work.bytes > 0) state.counters["TB/s"] = work.bytes / seconds / kTera;
  if (work.flops > 0) state.counters["TFLOP/s"] = work.flops / seconds / kTera;
  state.counters["share"] = bench.share(work, seconds);
}

void time_case(benchmark::State& state, Bench& bench, const Case& c) {
  bench.share({}, 1);  // before the case's own tensors take memory
  Bench::Calls calls(bench, c);
  double seconds = 0, count = 0;
  while (state.KeepRunningBatch(calls.size())) {
    const double batch = calls.run();
    state.SetIterationTime(batch);
    seconds += batch;
    count += static_cast<double>(calls.size());
  }
  set_counters(state, bench, calls.work(), seconds / count);
}

void add_benchmark(Bench& bench, const Case& c, bool small, Counts& counts) {
  if (const auto reason = bench.left_out(c)) {
    std::printf("%s\n", reason->c_str());
    return;
  }
  auto* added = benchmark::RegisterBenchmark(c.name.c_str(), [&bench, &counts, c](benchmark::State& state) {
    ++counts.run;
    try {
      time_case(state, bench, c);
    } catch (const std::exception& error) {
      ++counts.failed;
      state.SkipWithError(error.what());
    }
  });
  added->UseManualTime()->Unit(benchmark::kMicrosecond);
  if (small) added->Iterations(1);
}

int run(bool small) {
  load_cuda_module();
  constexpr BenchOptions kSmall{.rotated_bytes = 100'000,
                                .ceiling_copy_bytes = 1 << 20,
                                .ceiling_matrix_size = 128,
                                .ceiling_seconds = 0};
  Bench bench(Device{DeviceKind::kCuda, 0}, small ? kSmall : BenchOptions());
  Counts counts;
  for (const Case& c : bench.ceilings()) add_benchmark(bench, c, small, counts);
  for (const Case& c : all_cases(small ? small_sizes() : real_sizes()))
    add_benchmark(bench, c, small, counts);
  if (benchmark::RunSpecifiedBenchmarks() == 0) return 2;
  if (counts.run > 0)
    std::printf("NOTE: copies at %.2f TB/s, bf16 products at %.1f TFLOP/s\n",
                bench.copy_bytes_per_s() / kTera, bench.product_flops_per_s() / kTera);
  return counts.failed == 0 ? 0 : 1;
}

// What Google Benchmark gets to see: its own default is half a second for each op.
struct Arguments {
  bool small = false;
  std::string program, min_time = "--benchmark_min_time=0.25";
  std::vector<char*> rest;

  Arguments(int argc, char** argv) : program(argv[0]), rest{program.data(), min_time.data()} {
    for (int i = 1; i < argc; ++i) {
      if (std::string_view(argv[i]) == "--small")
        small = true;
      else
        rest.push_back(argv[i]);
    }
    rest.push_back(nullptr);
  }
};

}  // namespace
}  // namespace terroir::bench

int main(int argc, char** argv) {
  terroir::bench::Arguments arguments(argc, argv);
  int count = static_cast<int>(arguments.rest.size()) - 1;
  benchmark::Initialize(&count, arguments.rest.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.rest.data())) return 2;
  try {
    return terroir::bench::run(arguments.small);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_cuda_kernels: %s\n", error.what());
    return 1;
  }
}
