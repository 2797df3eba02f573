// Products with one to kThinRows rows of op(a), as generation and bias gradients make them: each element of b
// is used so seldom that packing it would cost more than the arithmetic. b is read where it lies, once.
// Included like simd-inl.h.
#if defined(TERROIR_KERNELS_MATMUL_THIN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERROIR_KERNELS_MATMUL_THIN_INL_H_
#undef TERROIR_KERNELS_MATMUL_THIN_INL_H_
#else
#define TERROIR_KERNELS_MATMUL_THIN_INL_H_
#endif

#include "kernels/matmul/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {
namespace {

constexpr int kThinRows = 4;
// Columns at a time (sum_down: vectors of columns, with one row twice as many): up to eight sums, as many as
// AVX2 has registers for beside the operands.
template <int kRows>
constexpr int kThinWidth = kRows <= 2 ? 4 : 2;
constexpr int kThinColumns = 128;  // columns whose sums are finished together
using ThinSums = float[kThinRows][kThinColumns];

// b's columns lie along its rows: sums of one or several vectors of columns at `at`, over all of k.
template <int kRows, int kVectors, class Position, class B>
HWY_INLINE void sum_down(const float* a, std::int64_t k, const B* b, std::int64_t stride, Position at,
                         ThinSums& sums) {
  const FloatTag d;
  constexpr std::int64_t kLanes = hn::MaxLanes(d);
  FloatVector total[kRows][kVectors];
  TERROIR_UNROLL_TILE
  for (int i = 0; i < kRows; ++i) {
    TERROIR_UNROLL_TILE
    for (int v = 0; v < kVectors; ++v) total[i][v] = hn::Zero(d);
  }
  for (std::int64_t l = 0; l < k; ++l, b += stride) {
    TERROIR_UNROLL_TILE
    for (int v = 0; v < kVectors; ++v) {
      const FloatVector right = load(at, b + v * kLanes);
      TERROIR_UNROLL_TILE
      for (int i = 0; i < kRows; ++i) total[i][v] = hn::MulAdd(hn::Set(d, a[i * k + l]), right, total[i][v]);
    }
  }
  TERROIR_UNROLL_TILE
  for (int i = 0; i < kRows; ++i) {
    TERROIR_UNROLL_TILE
    for (int v = 0; v < kVectors; ++v) store(at, total[i][v], sums[i] + v * kLanes);
  }
}

template <int kRows, class B>
void sum_columns_down(const float* a, std::int64_t k, const B* b, std::int64_t stride, std::int64_t columns,
                      ThinSums& sums) {
  constexpr int kVectors = kRows == 1 ? 8 : kThinWidth<kRows>;
  constexpr std::int64_t kStep = kVectors * static_cast<std::int64_t>(hn::MaxLanes(FloatTag()));
  std::int64_t column = 0;
  for (; column + kStep <= columns; column += kStep)
    sum_down<kRows, kVectors>(a, k, b, stride, WholeVector{column}, sums);
  for_each_vector(columns - column, [&](auto at) HWY_ATTR {
    at.index += column;
    sum_down<kRows, 1>(a, k, b, stride, at, sums);
  });
}

// b's columns are rows in memory: kColumns of them times the rows of a.
template <int kRows, int kColumns, class B>
HWY_INLINE void sum_along(const float* a, std::int64_t k, const B* b, std::int64_t stride,
                          std::int64_t column, ThinSums& sums) {
  const FloatTag d;
  FloatVector total[kRows][kColumns];
  TERROIR_UNROLL_TILE
  for (int i = 0; i < kRows; ++i) {
    TERROIR_UNROLL_TILE
    for (int j = 0; j < kColumns; ++j) total[i][j] = hn::Zero(d);
  }
  for_each_vector(k, [&](auto at) HWY_ATTR {
    TERROIR_UNROLL_TILE
    for (int j = 0; j < kColumns; ++j) {
      const FloatVector right = load(at, b + j * stride);
      TERROIR_UNROLL_TILE
      for (int i = 0; i < kRows; ++i) total[i][j] = hn::MulAdd(load(at, a + i * k), right, total[i][j]);
    }
  });
  TERROIR_UNROLL_TILE
  for (int i = 0; i < kRows; ++i) {
    TERROIR_UNROLL_TILE
    for (int j = 0; j < kColumns; ++j) sums[i][column + j] = sum_of_lanes(total[i][j]);
  }
}

template <int kRows, class B>
void sum_columns_along(const float* a, std::int64_t k, const B* b, std::int64_t stride, std::int64_t columns,
                       ThinSums& sums) {
  constexpr int kStep = kThinWidth<kRows>;
  std::int64_t column = 0;
  for (; column + kStep <= columns; column += kStep)
    sum_along<kRows, kStep>(a, k, b + column * stride, stride, column, sums);
  for (; column < columns; ++column) sum_along<kRows, 1>(a, k, b + column * stride, stride, column, sums);
}

template <int kRows, class B>
void sum_thin(const float* a, std::int64_t k, const gemm::Operand& b, std::int64_t column,
              std::int64_t columns, ThinSums& sums) {
  const B* from = static_cast<const B*>(b.data);
  if (b.depth_contiguous)
    sum_columns_along<kRows>(a, k, from + column * b.stride, b.stride, columns, sums);
  else
    sum_columns_down<kRows>(a, k, from + column, b.stride, columns, sums);
}

// One to kThinRows rows of a [rows, k] times `columns` <= kThinColumns columns of op(b).
template <class B>
void sum_thin_rows(std::int64_t rows, const float* a, std::int64_t k, const gemm::Operand& b,
                   std::int64_t column, std::int64_t columns, ThinSums& sums) {
  static_assert(kThinRows == 4);
  if (rows == 1) return sum_thin<1, B>(a, k, b, column, columns, sums);
  if (rows == 2) return sum_thin<2, B>(a, k, b, column, columns, sums);
  if (rows == 3) return sum_thin<3, B>(a, k, b, column, columns, sums);
  sum_thin<4, B>(a, k, b, column, columns, sums);
}

}  // namespace
}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
