// The inside of the backward on tensor cores (attention_mma_backward_cuda.cu): what a warp does with a tile
// of queries and a tile of keys that lie in shared memory.
#pragma once

#include "kernels/attention/attention_mma_tiles.cuh"

namespace terroir::cuda::attention::mma {

// A warp has 16 rows of the own tile. kColumns: of D, that a block adds up; where they are not all, kParts
// blocks share an own tile.
template <Owner kOwner_, int kD_, int kWarps_, int kPassing_, int kColumns_, int kBlocks_>
struct BackwardConfig {
  static constexpr Owner kOwner = kOwner_;
  static constexpr bool kQueriesOwn = kOwner == Owner::kQueries;
  static constexpr int kD = kD_, kWarps = kWarps_, kPassing = kPassing_, kColumns = kColumns_,
                       kBlocks = kBlocks_;
  static constexpr int kThreads = kWarps * kWarpSize, kOwn = kWarps * 16, kN = kPassing / 8;
  static constexpr int kParts = kD / kColumns;
  using Own = Tile<kOwn, kD>;
  using Passing = Tile<kPassing, kD>;
};

struct QueryStatistics {
  float lse, delta;  // lse of scores in powers of two
};

// Own tiles: k and v, or q and dout. Passing ones: the others, in two stages.
template <class C>
struct alignas(16) BackwardShared {
  BFloat own[2][C::Own::kElements], passing[2][2][C::Passing::kElements];
  int2 own_ids[C::kOwn], passing_ids[2][C::kPassing];
  QueryStatistics statistics[C::kQueriesOwn ? C::kOwn : 2 * C::kPassing];
  typename Walk<C::kOwner, C::kPassing>::Shared walk;
};

struct BackwardProblem {
  Inputs<BFloat> in;
  HeadRows<const BFloat> dout;
  HeadRows<BFloat> dq, dk, dv;
  const float* lse;  // [B, Hq, Tq]
  std::int64_t lse_batch_stride, lse_head_stride;
  float* deltas;  // [B, Hq, Tq]
};

// p: scores -> 2^(scale score - lse).  ds: dP -> p (dP - delta). Rows are the own tile's.
template <class C>
__device__ __forceinline__ void differentiate_softmax(float scale, const BackwardShared<C>& shared, int stage,
                                                      unsigned row, Sums<1, C::kN>& p, Sums<1, C::kN>& ds) {
  QueryStatistics of_row[2];
  if constexpr (C::kQueriesOwn) {
    of_row[0] = shared.statistics[row + fragment_row()];
    of_row[1] = shared.statistics[row + 8 + fragment_row()];
  }
#pragma unroll
  for (int j = 0; j < C::kN; ++j) {
    float4 of_columns = {};
    if constexpr (!C::kQueriesOwn)
      of_columns = *reinterpret_cast<const float4*>(
          &shared.statistics[stage * C::kPassing + 8 * j + static_cast<int>(fragment_column())]);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float lse = C::kQueriesOwn ? of_row[e / 2].lse : e % 2 == 0 ? of_columns.x : of_columns.z;
      const float delta = C::kQueriesOwn ? of_row[e / 2].delta : e % 2 == 0 ? of_columns.y : of_columns.w;
      p[0][j][e] = exp2_approximate(fmaf(p[0][j][e], scale, -lse));
      ds[0][j][e] = p[0][j][e] * (ds[0][j][e] - delta);
    }
  }
}

// Zeros p and ds where the query does not see the key, and of passing keys those from num_keys on. Own keys
// beyond the last are not written.
template <class C>
__device__ __forceinline__ void hide(const BackwardShared<C>& shared, int stage, unsigned row, int num_keys,
                                     Sums<1, C::kN>& p, Sums<1, C::kN>& ds) {
  const int2 own[2] = {shared.own_ids[row + fragment_row()], shared.own_ids[row + 8 + fragment_row()]};
#pragma unroll
  for (int j = 0; j < C::kN; ++j) {
    const int column = 8 * j + static_cast<int>(fragment_column());
    const int4 two = *reinterpret_cast<const int4*>(&shared.passing_ids[stage][column]);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int2 mine = own[e / 2], other = e % 2 == 0 ? make_int2(two.x, two.y) : make_int2(two.z, two.w);
      const bool seen = C::kQueriesOwn ? column + e % 2 < num_keys && sees(mine.x, mine.y, other.x, other.y)
                                       : sees(other.x, other.y, mine.x, mine.y);
      if (!seen) p[0][j][e] = ds[0][j][e] = 0;
    }
  }
}

// Of row `h` of a lane's two, from `first_column` on: to = factor * sums.
template <int kN>
__device__ __forceinline__ void put_row(BFloat* to, const Sums<1, kN>& sums, int h, int first_column,
                                        int head_size, float factor) {
#pragma unroll
  for (int j = 0; j < kN; ++j) {
    const int column = first_column + 8 * j + static_cast<int>(fragment_column());
    if (column < head_size)
      *reinterpret_cast<__nv_bfloat162*>(to + column) =
          __floats2bfloat162_rn(sums[0][j][2 * h] * factor, sums[0][j][2 * h + 1] * factor);
  }
}

// What a block adds up of the tiles that pass by.
template <class C>
struct Accumulator {
  Sums<1, C::kColumns / 8> sums, dv;  // of dS (dq or dk) and of P (dv)

  __device__ __forceinline__ Accumulator() {
    clear(sums);
    if constexpr (!C::kQueriesOwn) clear(dv);
  }

  __device__ __forceinline__ void add(const BackwardShared<C>& shared, int stage, unsigned row,
                                      int first_column, float scale, bool masked, int num_keys) {
    // Read only, whatever the pointer's type.
    const auto own = [&](int i) { return typename C::Own{const_cast<BFloat*>(shared.own[i])}; };
    const auto passing = [&](int i) {
      return typename C::Passing{const_cast<BFloat*>(shared.passing[stage][i])};
    };
    Sums<1, C::kN> p, ds;
    multiply_transposed(p, own(0), row, passing(0));
    multiply_transposed(ds, own(1), row, passing(1));
    differentiate_softmax<C>(scale * kLog2E, shared, stage, row, p, ds);
    if (masked) hide<C>(shared, stage, row, num_keys, p, ds);
    Weights<1, C::kN / 2> weights;
    if constexpr (!C::kQueriesOwn) {
      round_to_weights(p, weights);
      multiply_add(dv, weights, passing(1), static_cast<unsigned>(first_column) / 8);
    }
    round_to_weights(ds, weights);
    multiply_add(sums, weights, passing(0), static_cast<unsigned>(first_column) / 8);
  }
};

}  // namespace terroir::cuda::attention::mma
