#include "kernels/linear_cross_entropy/linear_cross_entropy.h"

#include <functional>
#include <string>
#include <tuple>

#include "tests/kernels/numeric_gradient.h"
#include "tests/kernels/on_device.h"

namespace terroir::test {
namespace {

constexpr double kTolerance = 3e-6;
// With bf16 operands: dx is rounded once (2^-9 at most), and where a gradient by a logit lies between two
// bf16 values, the reference's may be the other one.
constexpr double kBf16Tolerance = 1.0 / 256;

double tolerance(DType dtype) { return dtype == DType::kF32 ? kTolerance : kBf16Tolerance; }

// The whole problem in f64, from the definition. x [T, H], w [V, H]. With bf16, logits and the gradients by
// them are rounded as the op does.
struct Reference {
  std::int64_t hidden_size;
  std::vector<double> x, w;
  std::vector<std::int32_t> targets;
  double grad_scale;
  DType dtype = DType::kF32;
  std::vector<double> loss = {}, dx = {}, dw = {};

  std::int64_t vocab_size() const { return static_cast<std::int64_t>(w.size()) / hidden_size; }

  double logit(std::int64_t token, std::int64_t v) const {
    double sum = 0;
    for (std::int64_t i = 0; i < hidden_size; ++i) sum += x[token * hidden_size + i] * w[v * hidden_size + i];
    return rounded(sum);
  }
  double rounded(double value) const {
    return dtype == DType::kF32 ? value : rounded_to_bf16(static_cast<float>(value));
  }

  void compute() {
    loss.assign(targets.size(), 0);
    dx.assign(x.size(), 0);
    dw.assign(w.size(), 0);
    for (std::int64_t token = 0; token < static_cast<std::int64_t>(targets.size()); ++token)
      if (targets[token] != kIgnoredTarget) compute_token(token);
  }

 private:
  void compute_token(std::int64_t token) {
    double max = -INFINITY, sum = 0;
    for (std::int64_t v = 0; v < vocab_size(); ++v) max = std::max(max, logit(token, v));
    for (std::int64_t v = 0; v < vocab_size(); ++v) sum += std::exp(logit(token, v) - max);
    loss[token] = std::log(sum) + max - logit(token, targets[token]);
    for (std::int64_t v = 0; v < vocab_size(); ++v) {
      const double p = std::exp(logit(token, v) - max) / sum;
      const double gradient = rounded(grad_scale * (p - (v == targets[token] ? 1 : 0)));
      for (std::int64_t i = 0; i < hidden_size; ++i) {
        dx[token * hidden_size + i] += gradient * w[v * hidden_size + i];
        dw[v * hidden_size + i] += gradient * x[token * hidden_size + i];
      }
    }
  }
};

struct Sizes {
  std::int64_t tokens, hidden_size, vocab_size, chunk_tokens;
};

// Every fifth token ignored, the others' targets spread over the vocabulary, some of them shared.
std::vector<std::int32_t> make_targets(const Sizes& sizes) {
  std::vector<std::int32_t> targets;
  for (std::int64_t token = 0; token < sizes.tokens; ++token)
    targets.push_back(token % 5 == 4 ? kIgnoredTarget
                                     : static_cast<std::int32_t>(token * 7 % sizes.vocab_size));
  return targets;
}

// Multiples of 1/16, so that logits are exact in f32 in whatever order they are summed, and every backend
// rounds the same number to bf16.
void make_coarse(Tensor& tensor) {
  std::vector<float> elements;
  for (const double value : values(tensor))
    elements.push_back(static_cast<float>(std::round(value * 16) / 16));
  tensor.assign(elements);
}

struct Problem {
  Sizes sizes;
  DType dtype;
  Tensor x, w;
  std::vector<std::int32_t> target_values;
  IntTensor targets;
  float grad_scale;
  Reference reference;

  explicit Problem(const Sizes& s, float w_scale = 1, DType type = DType::kF32)
      : sizes(s),
        dtype(type),
        x({s.tokens, s.hidden_size}, 3, type),
        w({s.vocab_size, s.hidden_size}, 5, type),
        target_values(make_targets(s)),
        targets({s.tokens}, target_values),
        grad_scale(type == DType::kF32 ? 0.25F : 8) {
    x.randomize(1, 2);
    w.randomize(2, w_scale);
    if (type == DType::kBF16) {
      make_coarse(x);
      make_coarse(w);
    }
    reference = {s.hidden_size, values(x), values(w), target_values, grad_scale, type};
    reference.compute();
  }
  // NaN in one element of x, which the reference has not seen.
  void spoil(std::int64_t token) {
    std::vector<float> elements(reference.x.begin(), reference.x.end());
    elements[static_cast<std::size_t>(token * sizes.hidden_size + 1)] = NAN;
    x.assign(elements);
  }

  Workspace workspace() const {
    return Workspace(linear_cross_entropy_workspace_bytes(sizes.chunk_tokens, sizes.vocab_size,
                                                          sizes.hidden_size, dtype, test_device()));
  }
};

Tensor zeros(Shape shape) {
  Tensor tensor(shape);
  tensor.randomize(1, 0);
  return tensor;
}

LinearCrossEntropyArgs arguments(const Problem& problem, const View& loss, const View& dx, const View& dw,
                                 const View& workspace) {
  return {.x = problem.x.view(),
          .w = problem.w.view(),
          .targets = problem.targets,
          .loss = loss,
          .dx = dx,
          .dw = dw,
          .workspace = workspace,
          .chunk_tokens = problem.sizes.chunk_tokens,
          .grad_scale = problem.grad_scale};
}

class LinearCrossEntropyOf : public testing::TestWithParam<std::tuple<Sizes, DType>> {};

TEST_P(LinearCrossEntropyOf, LossAndGradientsEqualTheReference) {
  const auto& [sizes, dtype] = GetParam();
  const Problem problem(sizes, 1, dtype);
  Tensor loss({sizes.tokens}), dx({sizes.tokens, sizes.hidden_size}, 2, dtype),
      dw({sizes.vocab_size, sizes.hidden_size}, 4);
  std::vector<double> want_dw = values(dw.randomize(3));
  for (std::size_t i = 0; i < want_dw.size(); ++i) want_dw[i] += problem.reference.dw[i];
  const Workspace workspace = problem.workspace();
  OpContext ctx = context(2);
  linear_cross_entropy(ctx, arguments(problem, loss, dx, dw, workspace));
  expect_close(loss, problem.reference.loss, kTolerance, "loss");
  expect_close(dx, problem.reference.dx, tolerance(dtype), "dx");
  expect_close(dw, want_dw, tolerance(dtype), "dw");
  EXPECT_TRUE(dx.gaps_untouched() && dw.gaps_untouched());
}

TEST_P(LinearCrossEntropyOf, LossAloneIsTheSame) {
  const auto& [sizes, dtype] = GetParam();
  const Problem problem(sizes, 1, dtype);
  Tensor loss({sizes.tokens});
  const Workspace workspace = problem.workspace();
  OpContext ctx = context(2);
  linear_cross_entropy(ctx, arguments(problem, loss, {}, {}, workspace));
  expect_close(loss, problem.reference.loss, kTolerance, "loss");
}

INSTANTIATE_TEST_SUITE_P(Sizes, LinearCrossEntropyOf,
                         testing::Combine(testing::Values(Sizes{1, 1, 1, 1}, Sizes{1, 8, 2, 1},
                                                          Sizes{7, 5, 13, 3}, Sizes{40, 24, 100, 16},
                                                          Sizes{33, 40, 257, 64}, Sizes{12, 130, 48, 5},
                                                          Sizes{3, 9, 2500, 2}, Sizes{2, 4, 20011, 2}),
                                          testing::Values(DType::kF32, DType::kBF16)));

TEST(LinearCrossEntropy, ReferenceGradientsEqualCentralDifferences) {
  const Problem problem({6, 3, 5, 6});
  const Reference& reference = problem.reference;
  const auto loss = [](Reference r) {
    r.compute();
    double sum = 0;
    for (const double value : r.loss) sum += r.grad_scale * value;
    return sum;
  };
  const auto check = [&](std::vector<double> Reference::*input, const std::vector<double>& gradient) {
    const std::vector<double> numeric =
        numeric_gradient(reference.*input, [&](const std::vector<double>& values) {
          Reference moved = reference;
          moved.*input = values;
          return loss(moved);
        });
    for (std::size_t i = 0; i < numeric.size(); ++i) EXPECT_NEAR(numeric[i], gradient[i], 1e-8);
  };
  check(&Reference::x, reference.dx);
  check(&Reference::w, reference.dw);
}

TEST(LinearCrossEntropy, LogitsOfAnySizeStayFinite) {
  const Problem problem({20, 16, 90, 8}, 300);  // logits of several thousand
  const Tensor loss({20}), dx({20, 16}), dw = zeros({90, 16});
  const Workspace workspace = problem.workspace();
  OpContext ctx = context();
  linear_cross_entropy(ctx, arguments(problem, loss, dx, dw, workspace));
  expect_close(loss, problem.reference.loss, 1e-6, "loss");
  for (const double value : values(dx)) ASSERT_TRUE(std::isfinite(value));
  for (const double value : values(dw)) ASSERT_TRUE(std::isfinite(value));
}

class LinearCrossEntropyWith : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(DTypes, LinearCrossEntropyWith, testing::Values(DType::kF32, DType::kBF16));

TEST_P(LinearCrossEntropyWith, NanReachesTheLossOfItsTokenOnly) {
  Problem problem({10, 4, 20, 10}, 1, GetParam());
  problem.spoil(2);
  const Tensor loss({10});
  const Workspace workspace = problem.workspace();
  OpContext ctx = context();
  linear_cross_entropy(ctx, arguments(problem, loss, {}, {}, workspace));
  for (std::size_t token = 0; token < 10; ++token)
    EXPECT_EQ(std::isnan(values(loss)[token]), token == 2) << token;
}

TEST_P(LinearCrossEntropyWith, NanInAnIgnoredTokenReachesNoGradient) {
  Problem problem({10, 4, 20, 10}, 1, GetParam());
  problem.spoil(4);  // ignored
  const Tensor loss({10}), dx({10, 4}, 0, GetParam()), dw = zeros({20, 4});
  const Workspace workspace = problem.workspace();
  OpContext ctx = context();
  linear_cross_entropy(ctx, arguments(problem, loss, dx, dw, workspace));
  expect_close(loss, problem.reference.loss, kTolerance, "loss");
  expect_close(dx, problem.reference.dx, tolerance(GetParam()), "dx");
  expect_close(dw, problem.reference.dw, tolerance(GetParam()), "dw");
}

TEST_P(LinearCrossEntropyWith, ATargetOfNoRankGivesInfiniteLoss) {
  const Problem problem({1, 4, 20, 1}, 1, GetParam());
  const IntTensor beyond({1}, {20});
  const Tensor loss({1});
  const Workspace workspace = problem.workspace();
  LinearCrossEntropyArgs args = arguments(problem, loss, {}, {}, workspace);
  args.targets = beyond;
  OpContext ctx = context();
  linear_cross_entropy(ctx, args);
  expect_close(loss, {INFINITY}, 0, "loss");
}

// Ranks one after another, twice: first each only deposits its statistics, then each continues with those of
// all.
struct Exchange {
  std::vector<std::vector<Tensor>> deposited;  // [rank][chunk], each [3, n]
  std::size_t rank = 0, chunk = 0;
  bool depositing = true;

  static void merge(void* self, const View& statistics) { static_cast<Exchange*>(self)->merge(statistics); }
  void merge(const View& statistics) {
    const std::int64_t n = statistics.size(1), num_ranks = static_cast<std::int64_t>(deposited.size());
    if (depositing) {
      Tensor& own = deposited[rank].emplace_back(Shape{3, n});
      transfer(test_stream(), statistics, own.view());
      return;
    }
    const OnDevice<float> gathered(std::vector<float>(static_cast<std::size_t>(num_ranks * 3 * n)));
    for (std::int64_t r = 0; r < num_ranks; ++r)
      transfer(test_stream(), deposited[static_cast<std::size_t>(r)][chunk].view().reshape({3 * n}),
               gathered.view().slice(0, r * 3 * n, (r + 1) * 3 * n));
    OpContext ctx = context();
    merge_vocab_statistics(ctx, gathered.view({num_ranks, 3, n}), statistics);
    synchronize(test_stream());
    ++chunk;
  }
};

// Splits the vocabulary at `cuts`; returns every rank's share of dx, and writes loss and dw.
void run_ranks(const Problem& problem, const std::vector<std::int64_t>& cuts, std::vector<Tensor>& losses,
               std::vector<Tensor>& dxs, const Tensor& dw) {
  const std::size_t num_ranks = cuts.size() - 1;
  Exchange exchange;
  exchange.deposited.resize(num_ranks);
  for (exchange.depositing = true;; exchange.depositing = false) {
    for (std::size_t r = 0; r < num_ranks; ++r) {
      losses.emplace_back(Shape{problem.sizes.tokens});
      dxs.emplace_back(Shape{problem.sizes.tokens, problem.sizes.hidden_size}, 0, problem.dtype);
      const Workspace workspace = problem.workspace();
      LinearCrossEntropyArgs args =
          arguments(problem, losses.back(), dxs.back(), dw.view().slice(0, cuts[r], cuts[r + 1]), workspace);
      if (exchange.depositing) args.dx = args.dw = View();
      args.w = args.w.slice(0, cuts[r], cuts[r + 1]);
      args.vocab_begin = cuts[r];
      args.exchange = {Exchange::merge, &exchange};
      exchange.rank = r;
      exchange.chunk = 0;
      OpContext ctx = context();
      linear_cross_entropy(ctx, args);
      synchronize(test_stream());
    }
    if (!exchange.depositing) return;
    losses.clear();
    dxs.clear();
  }
}

TEST_P(LinearCrossEntropyWith, RanksThatSplitTheVocabularyEqualOne) {
  const double accuracy = tolerance(GetParam());
  for (const float w_scale : {1.0F, 60.0F}) {  // 60: one rank's largest logit far below another's
    const Problem problem({23, 12, 50, 7}, w_scale, GetParam());
    std::vector<Tensor> losses, dxs;
    const Tensor dw = zeros({50, 12});
    run_ranks(problem, {0, 20, 33, 50}, losses, dxs, dw);
    std::vector<double> dx(problem.reference.dx.size());
    for (std::size_t rank = 0; rank < 3; ++rank) {
      expect_same_bits(losses[0], losses[rank], "loss");
      const std::vector<double> share = values(dxs[rank]);
      for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += share[i];
    }
    expect_close(losses[0], problem.reference.loss, kTolerance, "loss");
    const double scale = w_scale * problem.grad_scale / 0.25;  // a share may be larger than the sum
    for (std::size_t i = 0; i < dx.size(); ++i)
      ASSERT_NEAR(dx[i], problem.reference.dx[i], accuracy * scale) << i;
    expect_close(dw, problem.reference.dw, accuracy * w_scale, "dw");
  }
}

TEST(LinearCrossEntropy, MergeSkipsNothingAndRescalesToTheLargest) {
  // Ranks: largest 1 and 3, sums 2 and 4, target on the first: 4 + 2 exp(1 - 3) = 4.2706706.
  const OnDevice<float> gathered({1, 2, 0.5F, 3, 4, -INFINITY});
  const Tensor merged({3, 1});
  OpContext ctx = context();
  merge_vocab_statistics(ctx, gathered.view({2, 3, 1}), merged);
  expect_close(merged, {3, 4 + 2 * std::exp(-2.0), 0.5}, 1e-6, "merged");
}

TEST(LinearCrossEntropy, OneAndTwoThreadsAgreeAndRepeatTheirBits) {
  TERROIR_CPU_ONLY();
  const Problem problem({40, 24, 300, 16});
  const Workspace workspace = problem.workspace();
  struct Results {
    Tensor loss, dx, dw;
  };
  const auto run = [&](int num_threads) {
    Results r = {Tensor({40}), Tensor({40, 24}), zeros({300, 24})};
    OpContext ctx = context(num_threads);
    linear_cross_entropy(ctx, arguments(problem, r.loss, r.dx, r.dw, workspace));
    return r;
  };
  const Results one = run(1), two = run(2), again = run(2);
  expect_close(two.loss, values(one.loss), 1e-6, "loss");
  expect_close(two.dx, values(one.dx), 1e-6, "dx");
  expect_close(two.dw, values(one.dw), 1e-6, "dw");
  expect_same_bits(two.loss, again.loss, "loss");
  expect_same_bits(two.dx, again.dx, "dx");
  expect_same_bits(two.dw, again.dw, "dw");
}

TEST(LinearCrossEntropy, DefaultChunksAreEqualAndBoundTheLogits) {
  EXPECT_EQ(linear_cross_entropy_chunk_tokens(0, 50304), 1);
  EXPECT_EQ(linear_cross_entropy_chunk_tokens(10, 50304), 10);
  EXPECT_EQ(linear_cross_entropy_chunk_tokens(1024, 50304), 512);  // 2^25 / 50304 = 667 at most
  EXPECT_EQ(linear_cross_entropy_chunk_tokens(1 << 20, std::int64_t{1} << 30), 64);
  EXPECT_EQ(linear_cross_entropy_chunk_tokens(16384, 128256, Device{DeviceKind::kCuda, 0}), 2048);
}

TEST(LinearCrossEntropy, RefusesWrongArgumentsAndWritesNothing) {
  const Problem problem({6, 4, 10, 3});
  Tensor loss({6}), dx({6, 4}), dw({10, 4});
  const Workspace workspace = problem.workspace();
  OpContext ctx = context();
  const auto refused = [&](const std::function<void(LinearCrossEntropyArgs&)>& spoil) {
    LinearCrossEntropyArgs args = arguments(problem, loss, dx, dw, workspace);
    spoil(args);
    EXPECT_THROW(linear_cross_entropy(ctx, args), ContractError);
    for (const Tensor* tensor : {&loss, &dx, &dw})
      for (const double value : values(*tensor)) EXPECT_TRUE(std::isnan(value));
  };
  const Tensor half({6, 4}, 0, DType::kBF16);
  const IntTensor numbers({6, 4}, std::vector<std::int32_t>(24));
  const Workspace small(linear_cross_entropy_workspace_bytes(3, 10, 4, DType::kF32, test_device()) - 1);
  refused([&](auto& args) { args.x = half; });
  refused([&](auto& args) { args.x = numbers; });
  refused([&](auto& args) { args.dx = half; });
  refused([&](auto& args) { args.w = args.w.slice(1, 0, 3); });
  refused([&](auto& args) { args.w = args.w.slice(0, 0, 0); });
  refused([&](auto& args) { args.targets = args.targets.slice(0, 0, 5); });
  refused([&](auto& args) { args.loss = args.loss.slice(0, 0, 5); });
  refused([&](auto& args) { args.dx = {}; });
  refused([&](auto& args) { args.dw = args.dw.slice(0, 0, 9); });
  refused([&](auto& args) { args.workspace = small; });
  refused([&](auto& args) { args.chunk_tokens = 0; });
  EXPECT_THROW(merge_vocab_statistics(ctx, dx.view(), loss), ContractError);
}

}  // namespace
}  // namespace terroir::test
