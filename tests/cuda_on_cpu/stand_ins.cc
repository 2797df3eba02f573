// What no CPU can run, done by the CPU backend in the order of the stream: cuBLASLt's matrix products, and
// its choice between algorithms that round differently.
#include <cuda_runtime.h>
#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <vector>

#include "base/hash.h"
#include "kernels/cuda/cuda_error.h"
#include "kernels/matmul/gemm_choice.h"
#include "kernels/matmul/gemm_description.h"
#include "kernels/matmul/matmul.h"
#include "kernels/tensor/elementwise.h"

namespace terroir::cuda {
namespace {

// Algorithm i begins the sum over k at i / 3 of it and goes round: other bits, the same value within
// rounding.
constexpr std::uint64_t kNumAlgorithms = 3;

// Chooses as CublasLtPlans does. What it measures is noise, another for each context of this process, so that
// two ranks, or two runs, use the same algorithms only where they agreed on them or were given them.
class Algorithms {
 public:
  static constexpr const char* kName = "stand-in for cuBLASLt";

  std::uint64_t choose(const GemmDescription& gemm, GemmChoices& choices) {
    if (generation_ != choices.generation()) chosen_.clear();
    generation_ = choices.generation();
    const auto [place, is_new] = chosen_.try_emplace(gemm, 0);
    if (is_new) place->second = make(describe(gemm), choices);
    return place->second;
  }

 private:
  std::uint64_t make(const std::string& key, GemmChoices& choices) const {
    const auto wanted = choices.wanted(kName, key);
    const AlgorithmWords words =
        wanted ? algorithm_from_hex(wanted->algorithm).value() : AlgorithmWords{kNumAlgorithms};
    GemmChoice choice = {.key = key, .algorithm = {}, .us = wanted ? wanted->us : 0};
    std::uint64_t algorithm = words[0];
    if (algorithm >= kNumAlgorithms) {  // none is wanted, or one that this library refuses
      const std::vector<double> us = measure(key, choices.num_candidates);
      algorithm = us.empty() ? 0 : fastest(us);
      choice.us = us.empty() ? 0 : us[algorithm];
    }
    choice.algorithm = to_hex({algorithm});
    choices.made.library = kName;
    choices.made.choices.push_back(std::move(choice));
    return algorithm;
  }

  std::vector<double> measure(const std::string& key, int num_candidates) const {
    std::vector<double> us;
    for (int i = 0; num_candidates > 1 && i < std::min<int>(num_candidates, kNumAlgorithms); ++i) {
      const std::string name = fmt::format("{} {} {}", key, i, context_);
      us.push_back(1 + static_cast<double>(xxh3_128(std::as_bytes(std::span(name))).low % 1000));
    }
    return us;
  }

  static int next_context() {
    static std::atomic<int> count{0};
    return count++;
  }
  int context_ = next_context();
  int generation_ = 0;
  std::map<GemmDescription, std::uint64_t> chosen_;
};

// The same matrix as host memory: the emulated device's is.
template <class AnyView>
View on_host(const AnyView& m) {
  if (m.rank() < 2)
    return m ? View(const_cast<void*>(static_cast<const void*>(m.raw())), m.dtype(), {m.numel()}) : View();
  const std::int64_t stride = std::max(m.stride(0), m.size(1));
  const View rows(const_cast<void*>(static_cast<const void*>(m.raw())), m.dtype(), {m.size(0), stride});
  return rows.slice(1, 0, m.size(1));
}

// Exact to f32, rounded once from it.
void convert(OpContext& ctx, const ConstView& from, const View& to) {
  from.dtype() == to.dtype() ? cpu::copy(ctx, {from, to}) : cpu::cast(ctx, {from, to});
}

// A tensor's values as f32, in memory of its own.
struct F32Copy {
  F32Copy(OpContext& ctx, const ConstView& of, bool read)
      : values(static_cast<std::size_t>(of.numel())),
        view(of.rank() == 1 ? View(values.data(), DType::kF32, {of.numel()})
                            : View(values.data(), DType::kF32, {of.size(0), of.size(1)})) {
    if (read) convert(ctx, of, view);
  }
  std::vector<float> values;
  View view;
};

// c = sums over [begin, k), then over [0, begin).
void multiply_from(OpContext& ctx, const MatmulArgs& args, std::int64_t begin) {
  const MatmulOptions& options = args.options;
  const int a_axis = options.transpose_a ? 0 : 1, b_axis = options.transpose_b ? 1 : 0;
  const F32Copy sum(ctx, args.c, options.accumulate);
  MatmulArgs part = {args.a.slice(a_axis, begin, args.a.size(a_axis)),
                     args.b.slice(b_axis, begin, args.a.size(a_axis)),
                     sum.view,
                     options,
                     {}};
  cpu::matmul(ctx, part);
  part.a = args.a.slice(a_axis, 0, begin);
  part.b = args.b.slice(b_axis, 0, begin);
  part.options.accumulate = true;
  if (!args.bias) {
    cpu::matmul(ctx, part);
  } else {
    const F32Copy bias(ctx, args.bias, true);
    part.bias = bias.view;
    cpu::matmul(ctx, part);
  }
  convert(ctx, sum.view, args.c);
}

struct Product {
  MatmulArgs args;
  std::uint64_t algorithm;
  static void run(void* data) {
    const std::unique_ptr<Product> product(static_cast<Product*>(data));
    static thread_local OpContext ctx;
    const MatmulArgs& args = product->args;
    const auto k = args.a.size(args.options.transpose_a ? 0 : 1);
    const auto begin = k * static_cast<std::int64_t>(product->algorithm) / std::int64_t{kNumAlgorithms};
    begin == 0 ? cpu::matmul(ctx, args) : multiply_from(ctx, args, begin);
  }
};

}  // namespace

void matmul(OpContext& ctx, const MatmulArgs& args) {
  const std::uint64_t algorithm =
      ctx.cache<Algorithms>().choose(column_major(args), ctx.cache<GemmChoices>());
  auto product = std::make_unique<Product>(Product{args, algorithm});
  product->args.a = on_host(args.a);
  product->args.b = on_host(args.b);
  product->args.c = on_host(args.c);
  product->args.bias = on_host(args.bias);
  check(cudaLaunchHostFunc(static_cast<cudaStream_t>(ctx.stream.native()), Product::run, product.release()),
        "cudaLaunchHostFunc");
}

}  // namespace terroir::cuda
