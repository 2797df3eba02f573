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

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

using attention::kKeys;
using attention::kQueries;

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
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVectors; ++v)
      sums[i][v] = p.accumulate ? hn::LoadU(d, c + i * p.ldc + v * lanes) : hn::Zero(d);
  const std::int64_t lda = p.lda, ldb = p.ldb;
  const float* a = p.a + (kLeft == Left::kRowMajor ? row * lda : row);
  const float* b = p.b + column;
  for (std::int64_t depth = p.depth; depth > 0; --depth) {
    FloatVector right[kVectors];
    for (int v = 0; v < kVectors; ++v) right[v] = hn::LoadU(d, b + v * lanes);
    for (int i = 0; i < kRows; ++i) {
      const FloatVector left = hn::Set(d, kLeft == Left::kRowMajor ? a[i * lda] : a[i]);
      for (int v = 0; v < kVectors; ++v) sums[i][v] = hn::MulAdd(left, right[v], sums[i][v]);
    }
    a += kLeft == Left::kRowMajor ? 1 : lda;
    b += ldb;
  }
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[i][v], d, c + i * p.ldc + v * lanes);
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

// The queries a block reads from x, transposed and scaled: out[i, lane] = factor * x[query lane, i]; out [D,
// kQueries].
inline void pack_transposed(const ConstView& x, std::int64_t batch, const attention::QueryBlock& block,
                            float factor, float* out) {
  for (std::int64_t lane = 0; lane < kQueries; ++lane) {
    const float* from = attention::row(x, batch, block.token[lane], block.head[lane]);
    for (std::int64_t i = 0; i < x.size(3); ++i) out[i * kQueries + lane] = factor * from[i];
  }
}

// The same rows untransposed, padded with zeros to `width`; rows beyond the block's count are zero.
inline void pack_rows(const ConstView& x, std::int64_t batch, const attention::QueryBlock& block,
                      float factor, std::int64_t width, float* out) {
  for (std::int64_t lane = 0; lane < kQueries; ++lane, out += width) {
    const bool used = lane < block.count;
    const float* from = attention::row(x, batch, block.token[lane], block.head[lane]);
    for (std::int64_t i = 0; i < x.size(3); ++i) out[i] = used ? factor * from[i] : 0;
    std::fill(out + x.size(3), out + width, 0.0F);
  }
}

// `count` rows of keys or values from `begin` on, padded with zeros to `width`: besides the padding, this
// takes them from rows that may all fall into the same cache sets to memory that does not.
inline void pack_keys(const ConstView& x, const attention::HeadGroup& group, std::int64_t begin,
                      std::int64_t count, std::int64_t width, float* out) {
  for (std::int64_t key = 0; key < count; ++key, out += width) {
    std::memcpy(out, attention::row(x, group.batch, begin + key, group.kv_head),
                static_cast<std::size_t>(x.size(3)) * sizeof(float));
    std::fill(out + x.size(3), out + width, 0.0F);
  }
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
