// Packing: lines of an operand become panels of kWidth lines, [depth, kWidth] floats each, so that the tile's
// loop reads one panel from front to back. In the last panel, lines beyond the last are zero as far as a tile
// reads them. Included like simd-inl.h.
#if defined(TERROIR_KERNELS_MATMUL_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERROIR_KERNELS_MATMUL_PACK_INL_H_
#undef TERROIR_KERNELS_MATMUL_PACK_INL_H_
#else
#define TERROIR_KERNELS_MATMUL_PACK_INL_H_
#endif

#include <hwy/cache_control.h>

#include <algorithm>

#include "kernels/matmul/blocks.h"
#include "kernels/tensor/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {
namespace {

HWY_INLINE float as_float(float value) { return value; }
HWY_INLINE float as_float(BFloat16 value) {
  const std::uint32_t bits = static_cast<std::uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

// Of a panel with `lines` lines, as many as a tile reads: whole vectors.
template <int kWidth>
std::int64_t filled_lines(std::int64_t lines) {
  constexpr std::int64_t kMultiple = std::max<std::int64_t>(hn::MaxLanes(FloatTag()), 4);
  return std::min<std::int64_t>(gemm::divide_up(lines, kMultiple) * kMultiple, kWidth);
}

#if HWY_TARGET != HWY_SCALAR
using FourTag = hn::FixedTag<float, 4>;

HWY_INLINE hn::Vec<FourTag> load_four(const float* from) { return hn::LoadU(FourTag(), from); }
HWY_INLINE hn::Vec<FourTag> load_four(const BFloat16* from) {
  const hn::RebindToUnsigned<FourTag> bits;
  const hn::Rebind<std::uint16_t, FourTag> half;
  const auto loaded = hn::LoadU(half, reinterpret_cast<const std::uint16_t*>(from));
  return hn::BitCast(FourTag(), hn::ShiftLeft<16>(hn::PromoteTo(bits, loaded)));
}

// Four neighbouring lines of a panel: [4, depth] to [depth, 4] at the lines' place `to` in the panel. The
// next four are fetched meanwhile: lines are too short for the hardware to foresee the next one.
template <int kWidth, class T>
HWY_INLINE void transpose_four(const T* from, std::int64_t stride, std::int64_t depth, float* to) {
  const FourTag d;
  constexpr std::int64_t kCacheLine = 64 / sizeof(T);
  std::int64_t l = 0;
  for (; l + 4 <= depth; l += 4, to += 4 * kWidth) {
    if (l % kCacheLine == 0)
      for (int line = 4; line < 8; ++line) hwy::Prefetch(from + line * stride + l);
    const auto row0 = load_four(from + l), row1 = load_four(from + stride + l);
    const auto row2 = load_four(from + 2 * stride + l), row3 = load_four(from + 3 * stride + l);
    const auto low02 = hn::InterleaveLower(d, row0, row2), low13 = hn::InterleaveLower(d, row1, row3);
    const auto high02 = hn::InterleaveUpper(d, row0, row2), high13 = hn::InterleaveUpper(d, row1, row3);
    hn::StoreU(hn::InterleaveLower(d, low02, low13), d, to);
    hn::StoreU(hn::InterleaveUpper(d, low02, low13), d, to + kWidth);
    hn::StoreU(hn::InterleaveLower(d, high02, high13), d, to + 2 * kWidth);
    hn::StoreU(hn::InterleaveUpper(d, high02, high13), d, to + 3 * kWidth);
  }
  for (; l < depth; ++l, to += kWidth)
    for (int line = 0; line < 4; ++line) to[line] = as_float(from[line * stride + l]);
}
#endif

// A panel of lines whose elements are neighbours.
template <int kWidth, class T>
void pack_transposed(const T* from, std::int64_t stride, std::int64_t lines, std::int64_t depth, float* to) {
  std::int64_t line = 0;
#if HWY_TARGET != HWY_SCALAR
  for (; line + 4 <= lines && line + 4 <= kWidth; line += 4)
    transpose_four<kWidth>(from + line * stride, stride, depth, to + line);
#endif
  for (const std::int64_t filled = filled_lines<kWidth>(lines); line < filled; ++line)
    for (std::int64_t l = 0; l < depth; ++l)
      to[l * kWidth + line] = line < lines ? as_float(from[line * stride + l]) : 0;
}

// kWidth neighbours.
template <int kWidth, class T>
HWY_INLINE void copy_lines(const T* from, float* to) {
  int i = 0;
  constexpr int kLanes = hn::MaxLanes(FloatTag());
  for (; i + kLanes <= kWidth; i += kLanes) hn::StoreU(load(WholeVector{i}, from), FloatTag(), to + i);
#if HWY_TARGET != HWY_SCALAR
  for (; i + 4 <= kWidth; i += 4) hn::StoreU(load_four(from + i), FourTag(), to + i);
#endif
  for (; i < kWidth; ++i) to[i] = as_float(from[i]);
}

// A panel of fewer lines than kWidth.
template <int kWidth, class T>
void copy_edge(const T* from, std::int64_t stride, std::int64_t lines, std::int64_t depth, float* to) {
  const std::int64_t filled = filled_lines<kWidth>(lines);
  for (std::int64_t l = 0; l < depth; ++l, from += stride, to += kWidth) {
    for_each_vector(lines, [&](auto at) HWY_ATTR { store(at, load(at, from), to); });
    std::fill(to + lines, to + filled, 0.0F);
  }
}

// Several panels of lines that are neighbours in each row of the depth. Rows are often a multiple of 4 KiB
// apart and then share cache sets: each is read over several panels while its lines and its page are at hand.
template <int kWidth, class T>
void pack_rows(const T* from, std::int64_t stride, std::int64_t lines, std::int64_t depth, float* to) {
  constexpr std::int64_t kTogether = gemm::divide_up(256, kWidth);
  const std::int64_t whole = lines / kWidth;
  for (std::int64_t panel = 0; panel < whole; panel += kTogether) {
    const std::int64_t end = std::min(panel + kTogether, whole);
    for (std::int64_t l = 0; l < depth; ++l)
      for (std::int64_t p = panel; p < end; ++p)
        copy_lines<kWidth>(from + l * stride + p * kWidth, to + (p * depth + l) * kWidth);
  }
  if (const std::int64_t rest = lines % kWidth; rest != 0)
    copy_edge<kWidth>(from + whole * kWidth, stride, rest, depth, to + whole * depth * kWidth);
}

template <int kWidth, class T>
void pack_panels(const gemm::Operand& operand, std::int64_t line, std::int64_t lines,
                 std::int64_t first_depth, std::int64_t depth, float* to) {
  const T* from = static_cast<const T*>(operand.data);
  if (!operand.depth_contiguous)
    return pack_rows<kWidth>(from + first_depth * operand.stride + line, operand.stride, lines, depth, to);
  from += line * operand.stride + first_depth;
  for (; lines > 0; lines -= kWidth, from += kWidth * operand.stride, to += kWidth * depth)
    pack_transposed<kWidth>(from, operand.stride, std::min<std::int64_t>(lines, kWidth), depth, to);
}

// Lines [line, line + lines) over [first_depth, first_depth + depth) of k: `to` is [panels, depth, kWidth].
template <int kWidth>
void pack(const gemm::Operand& operand, std::int64_t line, std::int64_t lines, std::int64_t first_depth,
          std::int64_t depth, float* to) {
  if (operand.dtype == DType::kBF16)
    pack_panels<kWidth, BFloat16>(operand, line, lines, first_depth, depth, to);
  else
    pack_panels<kWidth, float>(operand, line, lines, first_depth, depth, to);
}

}  // namespace
}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
