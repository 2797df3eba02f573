// Small matrix products in registers, and the moves between strided tensors and packed scratch. Included like
// kernels/tensor/simd-inl.h.
#if defined(TERROIR_KERNELS_ATTENTION_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERROIR_KERNELS_ATTENTION_TILES_INL_H_
#undef TERROIR_KERNELS_ATTENTION_TILES_INL_H_
#else
#define TERROIR_KERNELS_ATTENTION_TILES_INL_H_
#endif

#include "kernels/attention/blocks.h"
#include "kernels/tensor/exp2-inl.h"

// GCC unrolls the loops over a register tile too late to keep it in registers unless told so; clang needs no
// telling.
#ifndef TERROIR_UNROLL
#if HWY_COMPILER_GCC_ACTUAL
#define TERROIR_UNROLL _Pragma("GCC unroll 8")
#else
#define TERROIR_UNROLL
#endif
#endif

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

using attention::kKeys;
using attention::kQueries;

static_assert(hn::MaxLanes(FloatTag()) <= attention::kLanes);

// Rows of a register tile: with two vectors of columns, 16 sums where there are 32 registers, otherwise 8.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM
constexpr int kTileRows = 8;
#else
constexpr int kTileRows = 4;
#endif

// How the left factor lies in memory: element (row, depth) is a[row * lda + depth] or a[depth * lda + row].
enum class Left { kRowMajor, kDepthMajor };

struct Product {
  std::int64_t rows, columns, depth;  // columns: a multiple of the vector length
  const float* a;
  std::int64_t lda;
  const float* b;  // [depth, columns]
  std::int64_t ldb;
  float* c;  // [rows, columns]
  std::int64_t ldc;
  bool accumulate;
};

// c[row.., column..] of kRows rows and kVectors vectors, the sums held in registers.
template <Left kLeft, int kRows, int kVectors>
HWY_NOINLINE void multiply_tile(const Product& p, std::int64_t row, std::int64_t column) {
  const FloatTag d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  FloatVector sums[kRows][kVectors];
  float* c = p.c + row * p.ldc + column;
  TERROIR_UNROLL
  for (int i = 0; i < kRows; ++i) {
    TERROIR_UNROLL
    for (int v = 0; v < kVectors; ++v)
      sums[i][v] = p.accumulate ? hn::LoadU(d, c + i * p.ldc + v * lanes) : hn::Zero(d);
  }
  const std::int64_t lda = p.lda, ldb = p.ldb;
  const float* a = p.a + (kLeft == Left::kRowMajor ? row * lda : row);
  const float* b = p.b + column;
  for (std::int64_t depth = p.depth; depth > 0; --depth) {
    FloatVector right[kVectors];
    TERROIR_UNROLL
    for (int v = 0; v < kVectors; ++v) right[v] = hn::LoadU(d, b + v * lanes);
    TERROIR_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const FloatVector left = hn::Set(d, kLeft == Left::kRowMajor ? a[i * lda] : a[i]);
      TERROIR_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[i][v] = hn::MulAdd(left, right[v], sums[i][v]);
    }
    a += kLeft == Left::kRowMajor ? 1 : lda;
    b += ldb;
  }
  TERROIR_UNROLL
  for (int i = 0; i < kRows; ++i) {
    TERROIR_UNROLL
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[i][v], d, c + i * p.ldc + v * lanes);
  }
}

template <Left kLeft, int kVectors, int kRows>
HWY_INLINE void multiply_rows(const Product& p, std::int64_t row, std::int64_t column) {
  for (; row + kRows <= p.rows; row += kRows) multiply_tile<kLeft, kRows, kVectors>(p, row, column);
  if constexpr (kRows > 1) multiply_rows<kLeft, kVectors, kRows / 2>(p, row, column);
}

// c = a b, or c += a b. For factors that fit the first-level cache.
template <Left kLeft>
HWY_INLINE void multiply(const Product& p) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(FloatTag()));
  std::int64_t column = 0;
  for (; column + 2 * lanes <= p.columns; column += 2 * lanes)
    multiply_rows<kLeft, 2, kTileRows>(p, 0, column);
  if (column < p.columns) multiply_rows<kLeft, 1, kTileRows>(p, 0, column);
}

// to[i] = factor * from[i] for i < n, 0 for n <= i < width.
template <class From, class To>
void copy_padded(const From* from, std::int64_t n, float factor, std::int64_t width, To* to) {
  const auto factors = hn::Set(FloatTag(), factor);
  for_each_vector(n, [&](auto at) HWY_ATTR { store(at, hn::Mul(factors, load(at, from)), to); });
  for (std::int64_t i = n; i < width; ++i) to[i] = To{};
}

// The rows of x that a block of queries reads, scaled: out [kQueries, width]. Rows beyond the block's count
// are zero.
template <class T>
void pack_queries(const ConstView& x, std::int64_t batch, const attention::QueryBlock& block, float factor,
                  std::int64_t width, float* out) {
  for (std::int64_t lane = 0; lane < kQueries; ++lane, out += width)
    copy_padded(attention::row<T>(x, batch, block.token[lane], block.head[lane]),
                lane < block.count ? x.size(3) : 0, factor, width, out);
}

// `count` rows of keys or values from `begin` on: out [count, width]. Besides the padding, this takes them
// from rows that may all fall into the same cache sets to memory that does not.
template <class T>
void pack_keys(const ConstView& x, const attention::HeadGroup& group, std::int64_t begin, std::int64_t count,
               std::int64_t width, float* out) {
  const T* from = attention::row<T>(x, group.batch, begin, group.kv_head);
  for (std::int64_t key = 0; key < count; ++key, from += x.stride(1), out += width)
    copy_padded(from, x.size(3), 1, width, out);
}

// Rows of keys or values as a product's left factor: where they lie if they are f32, else packed into `out`.
struct LeftRows {
  const float* data;
  std::int64_t stride;
};
template <class T>
LeftRows left_rows(const ConstView& x, const attention::HeadGroup& group, std::int64_t begin,
                   std::int64_t count, std::int64_t width, float* out) {
  if constexpr (std::is_same_v<T, float>) {
    return {attention::row(x, group.batch, begin, group.kv_head), x.stride(1)};
  } else {
    pack_keys<T>(x, group, begin, count, width, out);
    return {out, width};
  }
}

// out [width, kQueries] = factor * rows [kQueries, width] transposed; both numbers are multiples of 4.
inline void transpose(const float* rows, std::int64_t width, float factor, float* out) {
#if HWY_TARGET == HWY_SCALAR
  for (std::int64_t lane = 0; lane < kQueries; ++lane)
    for (std::int64_t i = 0; i < width; ++i) out[i * kQueries + lane] = factor * rows[lane * width + i];
#else
  const hn::FixedTag<float, 4> d;
  const auto factors = hn::Set(d, factor);
  for (std::int64_t lane = 0; lane < kQueries; lane += 4)
    for (std::int64_t i = 0; i < width; i += 4) {
      const float* from = rows + lane * width + i;
      float* to = out + i * kQueries + lane;
      const auto row0 = hn::Load(d, from), row1 = hn::Load(d, from + width);
      const auto row2 = hn::Load(d, from + 2 * width), row3 = hn::Load(d, from + 3 * width);
      const auto low02 = hn::InterleaveLower(d, row0, row2), low13 = hn::InterleaveLower(d, row1, row3);
      const auto high02 = hn::InterleaveUpper(d, row0, row2), high13 = hn::InterleaveUpper(d, row1, row3);
      hn::Store(hn::Mul(factors, hn::InterleaveLower(d, low02, low13)), d, to);
      hn::Store(hn::Mul(factors, hn::InterleaveUpper(d, low02, low13)), d, to + kQueries);
      hn::Store(hn::Mul(factors, hn::InterleaveLower(d, high02, high13)), d, to + 2 * kQueries);
      hn::Store(hn::Mul(factors, hn::InterleaveUpper(d, high02, high13)), d, to + 3 * kQueries);
    }
#endif
}

// Which of a vector of queries, from `lane` on, see a key.
HWY_INLINE hn::Mask<FloatTag> visible(const attention::QueryBlock& block, std::int64_t lane,
                                      const attention::KeyTokens& keys, std::int64_t key) {
  const hn::RebindToSigned<FloatTag> di;
  const auto after = hn::Gt(hn::Set(di, keys.position[key]), hn::Load(di, block.position + lane));
  const auto same = hn::Eq(hn::Set(di, keys.document[key]), hn::Load(di, block.document + lane));
  return hn::RebindMask(FloatTag(), hn::AndNot(after, same));
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
