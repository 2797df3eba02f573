// The mapping to column-major products, executed by a plain product that reads and writes memory as BLAS
// does.
#include "kernels/matmul/gemm_description.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace terroir {
namespace {

// Rows of `row` elements, `stride` apart; gaps are NaN.
struct Matrix {
  Matrix(std::int64_t rows, std::int64_t row, std::int64_t stride, unsigned seed)
      : memory(static_cast<std::size_t>(rows * stride), std::numeric_limits<float>::quiet_NaN()),
        view(View(memory.data(), DType::kF32, {rows, stride}).slice(1, 0, row)) {
    std::mt19937 generator(seed);
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < row; ++j) at(i, j) = static_cast<float>(generator() % 17) - 8;
  }
  float& at(std::int64_t i, std::int64_t j) {
    return memory[static_cast<std::size_t>(i * view.stride(0) + j)];
  }
  std::vector<float> memory;
  View view;
};

// What a column-major library does with a description. Operands are read within their stated shapes only.
void execute(const GemmDescription& gemm, const float* a, const float* b, float* c, const float* bias) {
  const auto element = [](const GemmOperand& x, const float* data, bool transpose, std::int64_t i,
                          std::int64_t j) {
    if (transpose) std::swap(i, j);
    EXPECT_TRUE(i < x.rows && j < x.columns);
    return data[i + j * x.leading_dimension];
  };
  EXPECT_TRUE(gemm.c.rows == gemm.m && gemm.c.columns == gemm.n);
  EXPECT_GE(gemm.a.leading_dimension, gemm.a.rows);
  EXPECT_GE(gemm.b.leading_dimension, gemm.b.rows);
  EXPECT_GE(gemm.c.leading_dimension, gemm.c.rows);
  for (std::int64_t i = 0; i < gemm.m; ++i)
    for (std::int64_t j = 0; j < gemm.n; ++j) {
      float& out = c[i + j * gemm.c.leading_dimension];
      float sum = (gemm.accumulate ? out : 0) + (gemm.has_bias ? bias[i] : 0);
      for (std::int64_t l = 0; l < gemm.k; ++l)
        sum += element(gemm.a, a, gemm.transpose_a, i, l) * element(gemm.b, b, gemm.transpose_b, l, j);
      out = sum;
    }
}

class ColumnMajor : public testing::TestWithParam<int> {};

// Small whole numbers: every sum is exact, in any order.
TEST_P(ColumnMajor, DescriptionComputesTheRowMajorProduct) {
  constexpr std::int64_t m = 5, n = 7, k = 3;
  const int bits = GetParam();
  const bool transpose_a = bits & 1, transpose_b = bits & 2, accumulate = bits & 4, with_bias = bits & 8;
  Matrix a(transpose_a ? k : m, transpose_a ? m : k, 11, 1),
      b(transpose_b ? n : k, transpose_b ? k : n, 13, 2);
  Matrix c(m, n, 9, 3), bias(1, n, n, 4);
  std::vector<float> wanted;
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      float sum = (accumulate ? c.at(i, j) : 0) + (with_bias ? bias.at(0, j) : 0);
      for (std::int64_t l = 0; l < k; ++l)
        sum += (transpose_a ? a.at(l, i) : a.at(i, l)) * (transpose_b ? b.at(j, l) : b.at(l, j));
      wanted.push_back(sum);
    }
  const MatmulArgs args = {a.view,
                           b.view,
                           c.view,
                           {transpose_a, transpose_b, accumulate},
                           with_bias ? bias.view.reshape({n}) : View()};
  execute(column_major(args), b.memory.data(), a.memory.data(), c.memory.data(), bias.memory.data());
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) ASSERT_EQ(c.at(i, j), wanted[static_cast<std::size_t>(i * n + j)]);
    ASSERT_TRUE(std::isnan(c.memory[static_cast<std::size_t>(i * 9 + n)]));
  }
}
INSTANTIATE_TEST_SUITE_P(Flags, ColumnMajor, testing::Range(0, 16));

TEST(GemmDescription, SingleRowHasALeadingDimensionThatHoldsIt) {
  Matrix a(1, 4, 6, 1), b(4, 2, 2, 2), c(1, 2, 2, 3);
  // A view of one row whose stride says nothing.
  const View row = View(a.memory.data(), DType::kF32, {1, 4});
  EXPECT_EQ(column_major({row, b.view, c.view, {}, {}}).b.leading_dimension, 4);
  EXPECT_EQ(column_major({a.view, b.view, c.view, {}, {}}).b.leading_dimension, 6);
}

TEST(GemmDescription, KnowsTheAlignmentOfAddresses) {
  alignas(256) static std::byte memory[1024];
  const auto at = [&](int offset) { return View(memory + offset, DType::kBF16, {2, 2}); };
  const GemmDescription gemm = column_major({at(512), at(16), at(2), {}, {}});
  EXPECT_EQ(gemm.b.alignment_bytes, 256);
  EXPECT_EQ(gemm.a.alignment_bytes, 16);
  EXPECT_EQ(gemm.c.alignment_bytes, 2);
}

TEST(GemmDescription, TextTellsWhatDiffers) {
  alignas(256) static std::byte memory[1 << 16];
  const View x(memory, DType::kBF16, {128, 32}), w(memory, DType::kBF16, {64, 32}),
      y(memory, DType::kF32, {128, 64});
  const View bias(memory, DType::kF32, {64});
  EXPECT_EQ(describe(column_major({x, w, y, {.transpose_b = true}, {}})),
            "m64 n128 k32 TN bf16xbf16+f32 ld 32 32 64 align 256 256 256");
  EXPECT_EQ(describe(column_major({x, w, y, {.transpose_b = true, .accumulate = true}, bias})),
            "m64 n128 k32 TN bf16xbf16+f32 ld 32 32 64 align 256 256 256 bias accumulate");
}

TEST(GemmDescription, OrdersByEveryField) {
  Matrix a(3, 3, 3, 1), b(3, 3, 5, 2), c(3, 3, 3, 3);
  const GemmDescription one = column_major({a.view, a.view, c.view, {}, {}});
  EXPECT_EQ(one, column_major({a.view, a.view, c.view, {}, {}}));
  EXPECT_NE(one, column_major({a.view, b.view, c.view, {}, {}}));
  EXPECT_NE(one, column_major({a.view, a.view, c.view, {.accumulate = true}, {}}));
}

}  // namespace
}  // namespace terroir
