// Attention forward on tensor cores (FlashAttention-2, Dao 2023): a block keeps a tile of queries, the tiles
// of keys and values that they see pass by, softmax is kept running. K and V have one buffer each: a V tile
// arrives while scores are computed, the next K tile during P V.
#include <cmath>

#include "kernels/attention/attention_mma_tiles.cuh"
#include "kernels/attention/attention_own.h"

namespace terroir::cuda {
namespace attention::mma {
namespace {

// kM: 16-row tiles of a warp; two halve what is read from shared memory for each product.
template <int kD_, int kWarps_, int kM_, int kKeys_, int kBlocks_>
struct ForwardConfig {
  static constexpr int kD = kD_, kWarps = kWarps_, kM = kM_, kKeys = kKeys_, kBlocks = kBlocks_;
  static constexpr int kThreads = kWarps * kWarpSize, kRows = kWarps * kM * 16;
  static constexpr int kN = kKeys / 8;
  using Queries = Tile<kRows, kD>;
  using Keys = Tile<kKeys, kD>;
};

template <class C>
struct alignas(16) ForwardShared {
  BFloat q[C::Queries::kElements], k[C::Keys::kElements], v[C::Keys::kElements];
  int2 query_ids[C::kRows], key_ids[C::kKeys];
  int2 queries[C::kRows];  // token and head; -1 where there is none. Registers are short.
  typename Walk<Owner::kQueries, C::kKeys>::Shared walk;
};

struct Outputs {
  HeadRows<BFloat> o;
  float* lse;  // [B, Hq, Tq]
  std::int64_t lse_batch_stride, lse_head_stride;
};

// The running softmax of a lane's rows, in powers of two. `sum` is of the lane's own columns.
template <int kM>
struct RunningSoftmax {
  float max[kM][2], sum[kM][2];

  __device__ __forceinline__ RunningSoftmax() {
#pragma unroll
    for (int i = 0; i < kM; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) max[i][h] = -INFINITY, sum[i][h] = 0;
  }

  // Takes in scores, which become 2^(score - max), and brings `o` to the new max.
  template <int kN, int kColumnTiles>
  __device__ __forceinline__ void update(Sums<kM, kN>& scores, Sums<kM, kColumnTiles>& o) {
    float correction[kM][2];
    bool changed = false;
#pragma unroll
    for (int i = 0; i < kM; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float largest = max[i][h];
#pragma unroll
        for (int j = 0; j < kN; ++j)
          largest = fmaxf(largest, fmaxf(scores[i][j][2 * h], scores[i][j][2 * h + 1]));
        largest = fmaxf(largest, __shfl_xor_sync(kFullWarp, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(kFullWarp, largest, 2));
        const float base = largest == -INFINITY ? 0.0F : largest;  // nothing seen so far
        correction[i][h] = exp2_approximate(max[i][h] - base);
        changed |= correction[i][h] != 1;
        max[i][h] = largest;
        float added = 0;
#pragma unroll
        for (int j = 0; j < kN; ++j)
#pragma unroll
          for (int e = 2 * h; e < 2 * h + 2; ++e)
            added += scores[i][j][e] = exp2_approximate(scores[i][j][e] - base);
        sum[i][h] = fmaf(sum[i][h], correction[i][h], added);
      }
    if (__any_sync(kFullWarp, changed) == 0) return;  // a factor of 1 changes no bit
#pragma unroll
    for (int i = 0; i < kM; ++i)
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) o[i][j][e] *= correction[i][e / 2];
  }
};

template <int kM, int kN>
__device__ __forceinline__ void scale(Sums<kM, kN>& scores, float factor) {
#pragma unroll
  for (int i = 0; i < kM; ++i)
#pragma unroll
    for (int j = 0; j < kN; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) scores[i][j][e] *= factor;
}

// Hides from a warp's queries, from `row` on, what they do not see of the tile's first num_keys keys, and the
// keys beyond.
template <class C>
__device__ __forceinline__ void hide(Sums<C::kM, C::kN>& scores, const ForwardShared<C>& shared, unsigned row,
                                     int num_keys) {
#pragma unroll
  for (int j = 0; j < C::kN; ++j) {
    const int column = 8 * j + static_cast<int>(fragment_column());
    const int4 keys = *reinterpret_cast<const int4*>(&shared.key_ids[column]);
#pragma unroll
    for (int i = 0; i < C::kM; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int2 query = shared.query_ids[row + 16 * i + 8 * h + fragment_row()];
        if (column >= num_keys || !sees(query.x, query.y, keys.x, keys.y)) scores[i][j][2 * h] = -INFINITY;
        if (column + 1 >= num_keys || !sees(query.x, query.y, keys.z, keys.w))
          scores[i][j][2 * h + 1] = -INFINITY;
      }
  }
}

template <class C>
__device__ __forceinline__ void write(const Outputs& out, const ForwardShared<C>& shared, unsigned row,
                                      int head_size, const Sums<C::kM, C::kD / 8>& o,
                                      const RunningSoftmax<C::kM>& softmax) {
  const int batch = static_cast<int>(blockIdx.z);
#pragma unroll
  for (int i = 0; i < C::kM; ++i)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float sum = softmax.sum[i][h];
      sum += __shfl_xor_sync(kFullWarp, sum, 1);
      sum += __shfl_xor_sync(kFullWarp, sum, 2);
      const int2 query = shared.queries[row + 16 * i + 8 * h + fragment_row()];
      if (query.x < 0) continue;
      const float inverse = sum == 0 ? 0.0F : 1 / sum;
      BFloat* to = out.o.row(batch, query.x, query.y);
#pragma unroll
      for (int j = 0; j < C::kD / 8; ++j) {
        const int column = 8 * j + static_cast<int>(fragment_column());
        if (column < head_size)
          *reinterpret_cast<unsigned*>(to + column) =
              rounded_pair(o[i][j][2 * h] * inverse, o[i][j][2 * h + 1] * inverse);
      }
      if (fragment_column() == 0)
        out.lse[batch * out.lse_batch_stride + query.y * out.lse_head_stride + query.x] =
            (softmax.max[i][h] + log2f(sum)) * kLn2;
    }
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, C::kBlocks)
    forward_kernel(const Inputs<BFloat> in, const Outputs out) {
  DYNAMIC_SHARED(unsigned char, memory);
  auto& shared = *reinterpret_cast<ForwardShared<C>*>(memory);
  const typename C::Queries q = {shared.q};
  const typename C::Keys k = {shared.k}, v = {shared.v};
  const Group group = group_of_block(in);
  const int batch = group.batch, thread = static_cast<int>(threadIdx.x);
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * C::kRows;  // late queries see most: first
  if (first >= group.num_queries) return;
  const QueryTile tile(group, first, C::kRows);
  copy_rows<C::kThreads>(q, in.head_size, tile.count, [&](int row) {
    const int2 query = tile.at(row);
    return in.q.row(batch, query.x, query.y);
  });
  for (int row = thread; row < C::kRows; row += C::kThreads) {
    const int2 query = tile.at(row);
    shared.query_ids[row] = ids_at(in.queries, batch, query.x);
    shared.queries[row] = row < tile.count ? query : make_int2(-1, -1);
  }
  const Extent own = extent_of(in.queries, batch, tile.first_token, tile.at(C::kRows).x + 1);
  if (thread == 0) shared.walk.own = own;

  const int num_keys = static_cast<int>(in.num_keys);
  const KeyCopy<C::kThreads, typename C::Keys> k_copy(in.k, batch, group.kv_head),
      v_copy(in.v, batch, group.kv_head);
  const auto ids_of_thread = [&](int key_tile) {
    return ids_at(in.keys, batch, min(key_tile * C::kKeys + thread, num_keys - 1));
  };

  Walk<Owner::kQueries, C::kKeys> walk(in.keys, num_keys, group, shared.walk);
  Sums<C::kM, C::kD / 8> o;
  clear(o);
  RunningSoftmax<C::kM> softmax;
  const unsigned row = threadIdx.x / kWarpSize * (16 * C::kM);
  int2 ids = {};
  Visit visit = walk.next(0);
  if (visit.tile >= 0) {
    k_copy.start(k, in.k, visit.tile * C::kKeys, num_keys, in.head_size);
    cp_async_commit();
    if (thread < C::kKeys) ids = ids_of_thread(visit.tile);
  }
  while (visit.tile >= 0) {
    cp_async_wait<0>();
    __syncthreads();  // K has arrived; V and the ids have been read
    v_copy.start(v, in.v, visit.tile * C::kKeys, num_keys, in.head_size);
    cp_async_commit();
    if (thread < C::kKeys) shared.key_ids[thread] = ids;
    const Visit next = walk.next(visit.tile + 1);
    Sums<C::kM, C::kN> scores;
    multiply_transposed(scores, q, row, k);
    cp_async_wait<0>();
    __syncthreads();  // V and the ids have arrived; K has been read
    scale(scores, in.scale * kLog2E);
    if (visit.sight == kSeesSome) hide<C>(scores, shared, row, num_keys - visit.tile * C::kKeys);
    softmax.update(scores, o);
    Weights<C::kM, C::kN / 2> weights;
    round_to_weights(scores, weights);
    if (next.tile >= 0) {
      k_copy.start(k, in.k, next.tile * C::kKeys, num_keys, in.head_size);
      cp_async_commit();
      if (thread < C::kKeys) ids = ids_of_thread(next.tile);
    }
    multiply_add(o, weights, v, 0);
    visit = next;
  }
  write<C>(out, shared, row, in.head_size, o, softmax);
}

template <class C>
void run(OpContext& ctx, const AttentionForwardArgs& args) {
  const Outputs out = {head_rows<BFloat>(args.o), static_cast<float*>(args.lse.raw()), args.lse.stride(0),
                       args.lse.stride(1)};
  allow_shared_memory(forward_kernel<C>, sizeof(ForwardShared<C>));
  launch(forward_kernel<C>, query_grid(args.inputs, C::kRows), C::kThreads, sizeof(ForwardShared<C>),
         native_stream(ctx), kernel_inputs<BFloat>(args.inputs), out);
}

// Calls body(ForwardConfig()) with the smallest instance that a head fits.
//   D up to   shared memory   registers (sm_90)   warps of an SM of 65,536 registers
//   64        35 KB           215                 2 x 4
//   96        51 KB           249                 2 x 4
//   128       67 KB           255                 2 x 4
//   256       131 KB          238                 8
template <class Body>
auto for_head_size(std::int64_t head_size, Body&& body) {
  if (head_size <= 64) return body(ForwardConfig<64, 4, 2, 64, 2>());
  if (head_size <= 96) return body(ForwardConfig<96, 4, 2, 64, 2>());
  if (head_size <= 128) return body(ForwardConfig<128, 4, 2, 64, 2>());
  return body(ForwardConfig<256, 8, 1, 64, 1>());
}

}  // namespace
}  // namespace attention::mma

void attention_forward_mma(OpContext& ctx, const AttentionForwardArgs& args) {
  attention::mma::for_head_size(args.inputs.q.size(3),
                                [&](auto config) { attention::mma::run<decltype(config)>(ctx, args); });
}

std::int64_t attention_forward_mma_shared_bytes(std::int64_t head_size) {
  return attention::mma::for_head_size(head_size, [](auto config) {
    return static_cast<std::int64_t>(sizeof(attention::mma::ForwardShared<decltype(config)>));
  });
}

}  // namespace terroir::cuda
