// Tiles of bf16 in shared memory and their products on tensor cores.
//
// Fragments, for lane l with g = l / 4 and t = l % 4: of a 16 x 8 tile of sums a lane has the rows g and g +
// 8, columns 2t and 2t + 1, as sums[0..3] = (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1). Two such
// tiles side by side, rounded to bf16, are just what the next product wants as its left factor: weights never
// leave their registers.
#pragma once

#include "kernels/attention/attention_mma_walk.cuh"

namespace terroir::cuda::attention::mma {

__device__ __forceinline__ unsigned lane_id() { return threadIdx.x % kWarpSize; }
// The row g, and the first of the two columns, that a lane has of a tile of sums.
__device__ __forceinline__ unsigned fragment_row() { return lane_id() / 4; }
__device__ __forceinline__ unsigned fragment_column() { return lane_id() % 4 * 2; }

// [kRows, kColumns] in shared memory. The 16-byte chunks of a row change places by an XOR with the row's
// number, so that 8 rows' chunks of the same column, which ldmatrix reads together, lie in different banks,
// and so do 8 neighbouring chunks of a row, which copies write together.
template <int kRows_, int kColumns_>
struct Tile {
  static constexpr int kRows = kRows_, kColumns = kColumns_, kChunks = kColumns / 8;
  static constexpr int kElements = kRows * kColumns;
  // A chunk moves within groups of this many. Where a row is an odd number of such groups long, 8 / kSpread
  // rows differ by themselves.
  static constexpr int kSpread = kChunks % 8 == 0 ? 8 : kChunks % 4 == 0 ? 4 : 2;
  static_assert(kColumns % 16 == 0 && kRows % 8 == 0);

  BFloat* data;

  // Unsigned: the compiler then sees that 8 rows further on everything but the row is the same.
  __device__ __forceinline__ static unsigned shift(unsigned row) { return row / (8 / kSpread) % kSpread; }
  __device__ __forceinline__ BFloat* chunk(unsigned row, unsigned chunk) const {
    return data + row * kColumns + (chunk ^ shift(row)) * 8;
  }
  // chunk(row, even + odd) for a constant, even number and one of 0 and 1: written so that a loop over `even`
  // needs only kSpread / 2 different addresses, and offsets that are part of the instruction.
  __device__ __forceinline__ const BFloat* chunk(unsigned row, unsigned even, unsigned odd) const {
    const unsigned fixed = even / kSpread * kSpread, moving = even % kSpread;
    return data + row * kColumns + (moving ^ odd ^ shift(row)) * 8 + fixed * 8;
  }
};

// How a block's threads share out a tile's chunks: pass by pass, some rows at a time. Passes of 8 rows or a
// multiple leave a thread's chunk where it was.
template <int kThreads, class T>
struct Copying {
  static constexpr int kFit = kThreads / T::kChunks, kPassRows = kFit >= 8 ? kFit / 8 * 8 : kFit;
  static_assert(T::kRows % kPassRows == 0);

  __device__ __forceinline__ static unsigned row() { return threadIdx.x / T::kChunks; }
  __device__ __forceinline__ static unsigned chunk() { return threadIdx.x % T::kChunks; }
  __device__ __forceinline__ static bool idle() { return kPassRows != kFit && row() >= kPassRows; }
};

// Starts copies of rows into a tile: row r from source(r), an address for every r; zeros from `count` on and
// beyond head_size, a multiple of 8.
template <int kThreads, class T, class Source>
__device__ __forceinline__ void copy_rows(const T& tile, int head_size, int count, Source source) {
  using C = Copying<kThreads, T>;
  if (C::idle()) return;
  if (static_cast<int>(C::chunk()) * 8 >= head_size) count = 0;
#pragma unroll
  for (int pass = 0; pass < T::kRows; pass += C::kPassRows) {
    const int row = static_cast<int>(C::row()) + pass;
    cp_async_16(tile.chunk(row, C::chunk()), source(row) + C::chunk() * 8, row < count);
  }
}

// The rows of one key/value head, tile after tile: a thread keeps the address of its chunk in the first.
template <int kThreads, class T>
class KeyCopy {
 public:
  __device__ __forceinline__ KeyCopy(const HeadRows<const BFloat>& x, int batch, int kv_head)
      : from_(x.row(batch, C::row(), kv_head) + C::chunk() * 8) {}

  // Starts copies of the rows from `first` on: zeros beyond num_keys and head_size.
  __device__ __forceinline__ void start(const T& tile, const HeadRows<const BFloat>& x, int first,
                                        int num_keys, int head_size) const {
    if (C::idle()) return;
    const BFloat* from = from_ + first * x.token_stride;
    const int count =
        static_cast<int>(C::chunk()) * 8 < head_size ? num_keys - first - static_cast<int>(C::row()) : 0;
#pragma unroll
    for (int pass = 0; pass < T::kRows; pass += C::kPassRows) {
      cp_async_16(tile.chunk(C::row() + pass, C::chunk()), from, pass < count);
      from += C::kPassRows * x.token_stride;
    }
  }

 private:
  using C = Copying<kThreads, T>;
  const BFloat* from_;
};

template <int kM, int kN>
using Sums = float[kM][kN][4];  // 16 kM x 8 kN
template <int kM, int kK>
using Weights = unsigned[kM][kK][4];  // 16 kM x 16 kK, bf16

template <int kM, int kN>
__device__ __forceinline__ void clear(Sums<kM, kN>& sums) {
#pragma unroll
  for (int i = 0; i < kM; ++i)
#pragma unroll
    for (int j = 0; j < kN; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[i][j][e] = 0;
}

// right: the fragments of two neighbouring tiles of 8 columns.
template <int kM, int kN>
__device__ __forceinline__ void multiply_pair(Sums<kM, kN>& sums, int column_tile, const unsigned (&left)[4],
                                              int i, const unsigned (&right)[4]) {
  const unsigned first[2] = {right[0], right[1]}, second[2] = {right[2], right[3]};
  mma_m16n8k16_bf16(sums[i][column_tile], left, first);
  mma_m16n8k16_bf16(sums[i][column_tile + 1], left, second);
}

// sums = the rows of `a` from `row` on, times the rows of b: a b^T.
template <int kM, int kN, class A, class B>
__device__ __forceinline__ void multiply_transposed(Sums<kM, kN>& sums, const A& a, unsigned row,
                                                    const B& b) {
  static_assert(A::kColumns == B::kColumns && B::kRows == 8 * kN);
  const unsigned lane = lane_id();
  clear(sums);
#pragma unroll
  for (int k = 0; k < A::kColumns / 16; ++k) {
    unsigned left[kM][4];
#pragma unroll
    for (int i = 0; i < kM; ++i) ldmatrix_x4(left[i], a.chunk(row + 16 * i + lane % 16, 2 * k, lane / 16));
#pragma unroll
    for (int j = 0; j < kN; j += 2) {
      unsigned right[4];
      ldmatrix_x4(right, b.chunk(8 * j + lane / 16 * 8 + lane % 8, 2 * k, lane / 8 % 2));
#pragma unroll
      for (int i = 0; i < kM; ++i) multiply_pair(sums, j, left[i], i, right);
    }
  }
}

// sums += weights times the rows of b, columns from 8 first_chunk on.
template <int kM, int kN, int kK, class B>
__device__ __forceinline__ void multiply_add(Sums<kM, kN>& sums, const Weights<kM, kK>& weights, const B& b,
                                             unsigned first_chunk) {
  static_assert(B::kRows == 16 * kK && 8 * kN <= B::kColumns);
  const unsigned lane = lane_id();
#pragma unroll
  for (int k = 0; k < kK; ++k)
#pragma unroll
    for (int j = 0; j < kN; j += 2) {
      unsigned right[4];
      ldmatrix_x4_trans(right, b.chunk(16 * k + lane % 16, first_chunk + j, lane / 16));
#pragma unroll
      for (int i = 0; i < kM; ++i) multiply_pair(sums, j, weights[i][k], i, right);
    }
}

// Two values rounded to bf16, the first in the lower half.
__device__ __forceinline__ unsigned rounded_pair(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const unsigned*>(&pair);
}

// Sums as the left factor of the next product.
template <int kM, int kN>
__device__ __forceinline__ void round_to_weights(const Sums<kM, kN>& sums, Weights<kM, kN / 2>& weights) {
#pragma unroll
  for (int i = 0; i < kM; ++i)
#pragma unroll
    for (int k = 0; k < kN / 2; ++k)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float(&half)[4] = sums[i][2 * k + e / 2];
        weights[i][k][e] = rounded_pair(half[e % 2 * 2], half[e % 2 * 2 + 1]);
      }
}

}  // namespace terroir::cuda::attention::mma
