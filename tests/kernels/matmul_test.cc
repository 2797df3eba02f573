#include "kernels/matmul/matmul.h"

#include <omp.h>

#include <tuple>

#include "tests/kernels/test_tensor.h"

namespace terroir::test {
namespace {

// c + op(a) op(b) in f64; c may be empty.
std::vector<double> reference(const ConstView& a, const ConstView& b, const std::vector<double>& c,
                              std::int64_t n, const MatmulOptions& options) {
  const std::int64_t m = a.size(options.transpose_a ? 1 : 0), k = a.size(options.transpose_a ? 0 : 1);
  const std::vector<double> a_values = values(a), b_values = values(b);
  std::vector<double> result = c;
  result.resize(static_cast<std::size_t>(m * n));
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t l = 0; l < k; ++l)
        result[i * n + j] += a_values[options.transpose_a ? l * m + i : i * k + l] *
                             b_values[options.transpose_b ? j * k + l : l * n + j];
  return result;
}

struct Sizes {
  std::int64_t m, n, k;
};

class MatmulOf : public testing::TestWithParam<std::tuple<Sizes, bool, bool, bool>> {};

TEST_P(MatmulOf, StridedMatricesEqualsTheReference) {
  const auto& [sizes, transpose_a, transpose_b, accumulate] = GetParam();
  const auto& [m, n, k] = sizes;
  const MatmulOptions options = {transpose_a, transpose_b, accumulate};
  Tensor a(transpose_a ? Shape{k, m} : Shape{m, k}, 3), b(transpose_b ? Shape{n, k} : Shape{k, n}, 5);
  Tensor c({m, n}, 7);
  a.randomize(1);
  b.randomize(2);
  std::vector<double> before;
  if (accumulate) before = values(c.randomize(3));
  OpContext ctx = context(2);
  matmul(ctx, a, b, c, options);
  expect_close(c, reference(a, b, before, n, options), 1e-6 * static_cast<double>(k + 1), "c");
  EXPECT_TRUE(c.gaps_untouched());
}

INSTANTIATE_TEST_SUITE_P(Sizes, MatmulOf,
                         testing::Combine(testing::Values(Sizes{1, 1, 1}, Sizes{1, 65, 33}, Sizes{3, 1, 17},
                                                          Sizes{7, 5, 3}, Sizes{48, 16, 64},
                                                          Sizes{65, 127, 31}, Sizes{200, 130, 96},
                                                          Sizes{5, 4, 0}, Sizes{0, 4, 3}, Sizes{4, 0, 3}),
                                          testing::Bool(), testing::Bool(), testing::Bool()));

TEST(Matmul, GivesTheSameBitsEveryTime) {
  Tensor a({130, 70}), b({70, 90}), first({130, 90}), second({130, 90});
  a.randomize(1);
  b.randomize(2);
  OpContext ctx = context(2);
  matmul(ctx, a, b, first);
  matmul(ctx, a, b, second);
  expect_same_bits(first, second, "c");
}

TEST(Matmul, LeavesTheCallersNumberOfThreadsAlone) {
  const int before = omp_get_max_threads();
  Tensor a({4, 4}), c({4, 4});
  a.randomize(1);
  OpContext ctx = context(before + 3);
  matmul(ctx, a, a, c);
  EXPECT_EQ(omp_get_max_threads(), before);
}

TEST(Matmul, RefusesWrongArgumentsAndWritesNothing) {
  Tensor a({4, 6}), b({6, 5}), c({4, 5});
  a.randomize(1);
  b.randomize(2);
  OpContext ctx = context();
  Buffer half(4 * 6 * 2);
  Tensor wide({4, 7});
  EXPECT_THROW(matmul(ctx, a, a, c), ContractError);                         // inner sizes differ
  EXPECT_THROW(matmul(ctx, a, b, wide), ContractError);                      // c too wide
  EXPECT_THROW(matmul(ctx, a, b, c, {.transpose_a = true}), ContractError);  // k becomes 4
  EXPECT_THROW(matmul(ctx, half.view(DType::kBF16, {4, 6}), b, c), ContractError);
  EXPECT_THROW(matmul(ctx, ConstView(nullptr, DType::kF32, {4, 6}), b, c), ContractError);
  EXPECT_THROW(matmul(ctx, a.view().split(0, 2), b, c), ContractError);  // rank 3
  for (const double value : values(c)) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace terroir::test
