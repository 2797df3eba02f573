#include "kernels/matmul/matmul.h"

#include <omp.h>

#include <tuple>

#include "kernels/matmul/gemm_choice.h"
#include "kernels/tensor/elementwise.h"
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
  a.randomize(1);
  b.randomize(2);
  std::vector<double> before;
  if (accumulate) before = values(Tensor({m, n}).randomize(3));
  const std::vector<double> wanted = reference(a, b, before, n, options);
  for (const int num_threads : {1, 2, 5}) {
    Tensor c({m, n}, 7);
    if (accumulate) c.randomize(3);
    OpContext ctx = context(num_threads);
    matmul(ctx, a, b, c, options);
    expect_close(c, wanted, 1e-6 * static_cast<double>(k + 1), "c");
    EXPECT_TRUE(c.gaps_untouched());
  }
}

// Tiles are 4 x 3, 4 x 24 or 8 x 48 (rows x columns), a step of k is 192; up to four rows take a way of
// their own.
INSTANTIATE_TEST_SUITE_P(
    Sizes, MatmulOf,
    testing::Combine(testing::Values(Sizes{1, 1, 1}, Sizes{1, 65, 33}, Sizes{2, 131, 200}, Sizes{3, 1, 17},
                                     Sizes{4, 70, 193}, Sizes{7, 5, 3}, Sizes{5, 49, 191}, Sizes{8, 48, 192},
                                     Sizes{9, 47, 193}, Sizes{17, 25, 385}, Sizes{48, 16, 64},
                                     Sizes{65, 127, 31}, Sizes{200, 130, 96}, Sizes{481, 53, 7},
                                     Sizes{5, 4, 0}, Sizes{0, 4, 3}, Sizes{4, 0, 3}),
                     testing::Bool(), testing::Bool(), testing::Bool()));

// Several blocks of c, of at most 2048 rows and columns each, and more of k than several threads pack at
// once.
INSTANTIATE_TEST_SUITE_P(Blocks, MatmulOf,
                         testing::Combine(testing::Values(Sizes{4103, 7, 5}, Sizes{6, 4105, 5},
                                                          Sizes{2000, 9, 1000}),
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

TEST(Matmul, GivesTheSameBitsForAnyNumberOfThreads) {
  for (const auto& [m, n, k] :
       {Sizes{1, 5000, 70}, Sizes{7, 300, 600}, Sizes{2100, 60, 200}, Sizes{150, 90, 70}}) {
    Tensor a({m, k}), b({n, k}), bias({n}), one({m, n}), several({m, n});
    a.randomize(1);
    b.randomize(2);
    bias.randomize(3);
    OpContext single = context(1);
    matmul(single, a, b, one, {.transpose_b = true}, bias.view());
    for (const int num_threads : {2, 3, 7}) {
      OpContext ctx = context(num_threads);
      matmul(ctx, a, b, several, {.transpose_b = true}, bias.view());
      expect_same_bits(one, several, "c");
    }
  }
}

TEST(Matmul, GivesAnElementTheSameBitsWhereverItLies) {
  Tensor a({100, 450}), b({450, 120}), whole({100, 120}), part({59, 71});
  a.randomize(1);
  b.randomize(2);
  OpContext ctx = context(2);
  matmul(ctx, a, b, whole);
  matmul(ctx, a.view().slice(0, 41, 100), b.view().slice(1, 49, 120), part);
  expect_same_bits(part, whole.view().slice(0, 41, 100).slice(1, 49, 120), "c");
}

void convert(OpContext& ctx, const ConstView& from, const View& to) {
  from.dtype() == to.dtype() ? copy(ctx, from, to) : cast(ctx, from, to);
}

// A matrix in f32 or bf16, its rows three elements apart, and the same values in f32.
struct Matrix {
  Buffer memory;
  Tensor values;
  View view;

  Matrix(DType dtype, std::int64_t rows, std::int64_t columns, std::uint32_t seed)
      : memory(rows * (columns + 3) * 4, test_device()),
        values({rows, columns}),
        view(memory.view(dtype, {rows, columns + 3}).slice(1, 0, columns)) {
    OpContext ctx = context();
    values.randomize(seed);
    convert(ctx, values, view);
    convert(ctx, view, values);
  }
};

// `view` in f32.
Tensor in_f32(const ConstView& view) {
  OpContext ctx = context();
  Tensor result({view.size(0), view.size(1)});
  convert(ctx, view, result);
  return result;
}

class MatmulIn : public testing::TestWithParam<std::tuple<Sizes, DType, DType, DType, bool>> {};

// Converting before and rounding after changes no bit: so sums are f32 to the end, however k is cut up.
TEST_P(MatmulIn, MixedDtypesIsTheRoundedProductInF32) {
  const auto& [sizes, a_dtype, b_dtype, c_dtype, accumulate] = GetParam();
  if (on_cuda() && (a_dtype != b_dtype || (c_dtype != a_dtype && c_dtype != DType::kF32)))
    GTEST_SKIP() << "cuBLASLt has no product of these dtypes";
  const auto& [m, n, k] = sizes;
  for (const bool transpose_a : {false, true})
    for (const bool transpose_b : {false, true}) {
      const MatmulOptions options = {transpose_a, transpose_b, accumulate};
      const Matrix a(a_dtype, transpose_a ? k : m, transpose_a ? m : k, 1);
      const Matrix b(b_dtype, transpose_b ? n : k, transpose_b ? k : n, 2);
      const Matrix bias(c_dtype, 1, n, 3), c(c_dtype, m, n, 4), wanted(c_dtype, m, n, 4);
      OpContext ctx = context(2);
      ctx.cache<GemmChoices>().num_candidates = 8;  // whichever is measured fastest, on a GPU
      matmul(ctx, a.view, b.view, c.view, options, ConstView(bias.view.raw(), c_dtype, {n}, test_device()));
      matmul(ctx, a.values, b.values, wanted.values, options, bias.values.view().reshape({n}));
      convert(ctx, wanted.values, wanted.view);
      // A GPU sums in another order for other dtypes: rounding, once, of sums of up to 600 products below 1.
      if (on_cuda())
        expect_close(in_f32(c.view), values(in_f32(wanted.view)), c_dtype == DType::kBF16 ? 0x1p-7 : 1e-5,
                     "c");
      else
        expect_same_bits(in_f32(c.view), in_f32(wanted.view), "c");
    }
}

INSTANTIATE_TEST_SUITE_P(
    Dtypes, MatmulIn,
    testing::Combine(testing::Values(Sizes{50, 49, 600}, Sizes{3, 100, 70}, Sizes{9, 2100, 200}),
                     testing::Values(DType::kF32, DType::kBF16), testing::Values(DType::kF32, DType::kBF16),
                     testing::Values(DType::kF32, DType::kBF16), testing::Bool()));

// The columns of a bias a block of c needs, in f32, for c in bf16 too.
TEST(Matmul, AddsTheBiasToEveryRow) {
  for (const std::int64_t m : {2, 9})
    for (const bool accumulate : {false, true}) {
      constexpr std::int64_t kColumns = 2100, kDepth = 5;
      Tensor a({m, kDepth}), b({kDepth, kColumns}), c({m, kColumns}, 2), bias({kColumns});
      a.randomize(1);
      b.randomize(2);
      bias.randomize(3);
      std::vector<double> wanted(static_cast<std::size_t>(m * kColumns));
      if (accumulate) wanted = values(c.randomize(4));
      const std::vector<double> bias_values = values(bias);
      for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i] += bias_values[i % kColumns];
      OpContext ctx = context(2);
      matmul(ctx, a, b, c, {.accumulate = accumulate}, bias.view());
      expect_close(c, reference(a, b, wanted, kColumns, {}), 1e-5, "c");
      EXPECT_TRUE(c.gaps_untouched());
    }
}

// 1 + 2^-8 lies between the bf16 numbers 1 and 1 + 2^-7, halfway: to even. The bias alone decides which.
TEST(Matmul, RoundsOnceWithTheOldValueAndTheBiasAdded) {
  TERROIR_CPU_ONLY();
  Tensor a({5, 1}), b({1, 1}), bias({1});
  for (int i = 0; i < 5; ++i) a.view().data<float>()[i] = 1;
  b.view().data<float>()[0] = 0x1p-8F;
  const Matrix c(DType::kBF16, 5, 1, 1);
  OpContext ctx = context();
  const auto product = [&](float bias_value) {
    fill(ctx, c.view, 1);
    bias.view().data<float>()[0] = bias_value;
    matmul(ctx, a, b, c.view, {.accumulate = true}, bias.view());
    return values(in_f32(c.view))[4];
  };
  EXPECT_EQ(product(0), 1);
  EXPECT_EQ(product(0x1p-20F), 1 + 0x1p-7);
  EXPECT_EQ(product(-0x1p-20F), 1);
}

TEST(Matmul, OfNothingIsZeroPlusWhatIsAdded) {
  TERROIR_CPU_ONLY();
  Tensor c({6, 4}), bias({4});
  bias.randomize(1);
  OpContext ctx = context(2);
  const ConstView a(nullptr, DType::kF32, {6, 0}), b(nullptr, DType::kBF16, {0, 4});
  matmul(ctx, a, b, c, {}, bias.view());
  matmul(ctx, a, b, c, {.accumulate = true}, bias.view());
  const std::vector<double> got = values(c), bias_values = values(bias);
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], 2 * bias_values[i % 4]);
}

// NaN in row 1 of a and column 2 of b, an infinity times zero, and an infinity times something.
TEST(Matmul, SendsNanAndInfinityWhereTheFormulaDoes) {
  TERROIR_CPU_ONLY();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(),
                  kInf = std::numeric_limits<float>::infinity();
  for (const std::int64_t m : {3, 11}) {
    Tensor a({m, 4}), b({4, 50}), c({m, 50});
    OpContext ctx = context();
    fill(ctx, a, 1);
    fill(ctx, b, 1);
    a.view().data<float>()[1 * 4 + 3] = kNan;
    b.view().data<float>()[0 * 50 + 2] = kNan;
    b.view().data<float>()[1 * 50 + 7] = kInf;
    a.view().data<float>()[2 * 4 + 1] = 0;
    matmul(ctx, a, b, c);
    const std::vector<double> got = values(c);
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < 50; ++j) {
        const double value = got[static_cast<std::size_t>(i * 50 + j)];
        if (i == 1 || j == 2 || (i == 2 && j == 7))
          EXPECT_TRUE(std::isnan(value)) << i << " " << j;
        else
          EXPECT_EQ(value, j == 7 ? kInf : i == 2 ? 3 : 4) << i << " " << j;
      }
  }
}

TEST(Matmul, LeavesTheCallersNumberOfThreadsAlone) {
  TERROIR_CPU_ONLY();
  const int before = omp_get_max_threads();
  Tensor a({4, 4}), c({4, 4});
  a.randomize(1);
  OpContext ctx = context(before + 3);
  matmul(ctx, a, a, c);
  EXPECT_EQ(omp_get_max_threads(), before);
}

TEST(Matmul, RefusesWrongArgumentsAndWritesNothing) {
  TERROIR_CPU_ONLY();
  Tensor a({4, 6}), b({6, 5}), c({4, 5});
  a.randomize(1);
  b.randomize(2);
  OpContext ctx = context();
  Buffer memory(4 * 6 * 8);
  Tensor wide({4, 7});
  const ConstView half_bias = memory.view(DType::kBF16, {5});
  EXPECT_THROW(matmul(ctx, a, a, c), ContractError);                         // inner sizes differ
  EXPECT_THROW(matmul(ctx, a, b, wide), ContractError);                      // c too wide
  EXPECT_THROW(matmul(ctx, a, b, c, {.transpose_a = true}), ContractError);  // k becomes 4
  EXPECT_THROW(matmul(ctx, memory.view(DType::kF64, {4, 6}), b, c), ContractError);
  EXPECT_THROW(matmul(ctx, a, b, memory.view(DType::kI32, {4, 5})), ContractError);
  EXPECT_THROW(matmul(ctx, a, b, c, {}, half_bias), ContractError);  // neither f32 nor c's dtype
  EXPECT_THROW(matmul(ctx, a, b, c, {}, ConstView(memory.view(DType::kF32, {4}))),
               ContractError);  // too short
  EXPECT_THROW(matmul(ctx, ConstView(nullptr, DType::kF32, {4, 6}), b, c), ContractError);
  EXPECT_THROW(matmul(ctx, a.view().split(0, 2), b, c), ContractError);  // rank 3
  for (const double value : values(c)) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace terroir::test
