// The register tile, in whose loop nearly all of a product's time goes, and what becomes of its sums.
// Included like simd-inl.h.
#if defined(TERROIR_KERNELS_MATMUL_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERROIR_KERNELS_MATMUL_TILE_INL_H_
#undef TERROIR_KERNELS_MATMUL_TILE_INL_H_
#else
#define TERROIR_KERNELS_MATMUL_TILE_INL_H_
#endif

#include <hwy/cache_control.h>

#include <algorithm>

#include "kernels/matmul/blocks.h"
#include "kernels/tensor/simd-inl.h"

// GCC unrolls the loops over a register tile too late to keep it in registers unless told so; clang needs no
// telling.
#ifndef TERROIR_UNROLL_TILE
#if HWY_COMPILER_GCC_ACTUAL
#define TERROIR_UNROLL_TILE _Pragma("GCC unroll 16")
#else
#define TERROIR_UNROLL_TILE
#endif
#endif

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {
namespace {

// Sums, a row of op(b) and an element of op(a) fill the registers: 28 of 32 with AVX-512 and NEON, 16 of 16
// with AVX2. With AVX-512, 14 x 2 vectors had 0.95 of this tile's speed: the panels of a and b it reads in a
// step do not fit the first-level cache together.
constexpr int kTileVectors = 3;
#if HWY_ARCH_ARM
constexpr int kTileRows = 8;
constexpr std::int64_t kGroupRows = 160;
#elif HWY_TARGET <= HWY_AVX3
constexpr int kTileRows = 8;
constexpr std::int64_t kGroupRows = 480;  // x kStepDepth x 4 bytes = 360 KiB of at least 1 MiB
#else
constexpr int kTileRows = 4;
constexpr std::int64_t kGroupRows = 144;  // 108 KiB of at least 256 KiB
#endif
constexpr int kTileColumns = kTileVectors * static_cast<int>(hn::MaxLanes(FloatTag()));
static_assert(kTileColumns <= gemm::kMaxPanelWidth);

template <class Add, class To>
HWY_INLINE void finish_row(const float* sums, std::int64_t n, const Add* add, const float* bias, To* to) {
  for_each_vector(n, [&](auto at) HWY_ATTR {
    auto value = load(at, sums);
    if (add != nullptr) value = hn::Add(load(at, add), value);
    if (bias != nullptr) value = hn::Add(value, load(at, bias));
    store(at, value, to);
  });
}

template <class Add, class To>
HWY_NOINLINE void finish_rows(const float* sums, std::int64_t sums_stride, std::int64_t rows,
                              std::int64_t columns, const gemm::Destination& out, std::int64_t row,
                              std::int64_t column) {
  const float* bias = out.bias == nullptr ? nullptr : out.bias + column;
  for (std::int64_t i = 0; i < rows; ++i, sums += sums_stride) {
    const Add* add = static_cast<const Add*>(out.add);
    if (add != nullptr) add += (row + i) * out.add_stride + column;
    finish_row(sums, columns, add, bias, static_cast<To*>(out.to) + (row + i) * out.to_stride + column);
  }
}

// sums [rows, columns] go to `out` at (row, column).
inline void finish(const float* sums, std::int64_t sums_stride, std::int64_t rows, std::int64_t columns,
                   const gemm::Destination& out, std::int64_t row, std::int64_t column) {
  const bool add_bf16 = out.add_dtype == DType::kBF16, to_bf16 = out.to_dtype == DType::kBF16;
  const auto finish_as = add_bf16 ? (to_bf16 ? finish_rows<BFloat16, BFloat16> : finish_rows<BFloat16, float>)
                                  : (to_bf16 ? finish_rows<float, BFloat16> : finish_rows<float, float>);
  finish_as(sums, sums_stride, rows, columns, out, row, column);
}

// Element (l, x) of a factor's panel p: data[p * panel_stride + l * depth_stride + x].
struct Factor {
  const float* data;
  std::int64_t panel_stride, depth_stride;

  const float* panel(std::int64_t index) const { return data + index * panel_stride; }
};

// c [kRows, kVectors vectors], rows `stride` apart, = or += the product of two panels.
template <int kRows, int kVectors>
HWY_NOINLINE void multiply_tile(std::int64_t depth, const float* HWY_RESTRICT a, std::int64_t a_stride,
                                const float* HWY_RESTRICT b, std::int64_t b_stride, bool add, float* c,
                                std::int64_t stride) {
  const FloatTag d;
  constexpr std::int64_t kLanes = hn::MaxLanes(d), kCacheLine = 16;
  FloatVector sums[kRows][kVectors];
  TERROIR_UNROLL_TILE
  for (int i = 0; i < kRows; ++i) {
    TERROIR_UNROLL_TILE
    for (int v = 0; v < kVectors; ++v) sums[i][v] = hn::Zero(d);
    // c is wanted when the loop ends.
    for (std::int64_t j = 0; j < kVectors * kLanes; j += kCacheLine) hwy::Prefetch(c + i * stride + j);
  }
  for (; depth > 0; --depth, a += a_stride, b += b_stride) {
    FloatVector right[kVectors];
    TERROIR_UNROLL_TILE
    for (int v = 0; v < kVectors; ++v) right[v] = hn::LoadU(d, b + v * kLanes);
    TERROIR_UNROLL_TILE
    for (int i = 0; i < kRows; ++i) {
      const FloatVector left = hn::Set(d, a[i]);
      TERROIR_UNROLL_TILE
      for (int v = 0; v < kVectors; ++v) sums[i][v] = hn::MulAdd(left, right[v], sums[i][v]);
    }
  }
  TERROIR_UNROLL_TILE
  for (int i = 0; i < kRows; ++i, c += stride) {
    TERROIR_UNROLL_TILE
    for (int v = 0; v < kVectors; ++v) {
      if (add) sums[i][v] = hn::Add(hn::LoadU(d, c + v * kLanes), sums[i][v]);
      hn::StoreU(sums[i][v], d, c + v * kLanes);
    }
  }
}

using MultiplyTile = decltype(&multiply_tile<kTileRows, kTileVectors>);

// For tiles of up to `columns` columns.
template <int kRows>
MultiplyTile multiply_tile_for(std::int64_t columns) {
  static_assert(kTileVectors == 3);
  const std::int64_t vectors = gemm::divide_up(columns, static_cast<std::int64_t>(hn::MaxLanes(FloatTag())));
  if (vectors == 1) return multiply_tile<kRows, 1>;
  return vectors == 2 ? multiply_tile<kRows, 2> : multiply_tile<kRows, 3>;
}

// Whether whole tiles may go straight from registers to f32 memory, stored or added to what is there.
inline bool is_direct(const gemm::Destination& out) {
  return out.to_dtype == DType::kF32 && out.bias == nullptr && (out.add == nullptr || out.add == out.to);
}

// Rows [row, end) of `out` in the `columns` columns of one panel of b.
inline void multiply_panels(std::int64_t depth, const Factor& a, const Factor& b, std::int64_t panel,
                            std::int64_t columns, const gemm::Destination& out, std::int64_t row,
                            std::int64_t end) {
  constexpr int kHalfRows = kTileRows / 2;
  const MultiplyTile whole = multiply_tile_for<kTileRows>(columns),
                     half = multiply_tile_for<kHalfRows>(columns);
  const std::int64_t column = panel * kTileColumns;
  const bool direct = is_direct(out) && columns % static_cast<std::int64_t>(hn::MaxLanes(FloatTag())) == 0;
  HWY_ALIGN float sums[kTileRows * kTileColumns];
  for (; row < end; row += kTileRows) {
    const std::int64_t rows = std::min<std::int64_t>(kTileRows, end - row);
    const float* left = a.panel(row / kTileRows);
    if (direct && rows == kTileRows) {
      float* c = static_cast<float*>(out.to) + row * out.to_stride + column;
      whole(depth, left, a.depth_stride, b.panel(panel), b.depth_stride, out.add != nullptr, c,
            out.to_stride);
    } else {
      const MultiplyTile multiply = rows <= kHalfRows ? half : whole;
      multiply(depth, left, a.depth_stride, b.panel(panel), b.depth_stride, false, sums, kTileColumns);
      finish(sums, kTileColumns, rows, columns, out, row, column);
    }
  }
}

}  // namespace
}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
