// Which part of an attention a block of the tensor-core kernels works on, and which tiles it has to visit.
//
// A block belongs to one batch item and one key/value head: blockIdx.z, blockIdx.y. The query heads that
// share that head (its group) are numbered token-major together: query n is head n % num_heads of token n /
// num_heads. So a tile of queries holds neighbouring tokens of all heads of the group: each key is read once
// for all of them, and the tile spans few tokens, so that little of what it computes is hidden (with 4 heads
// a tile of 128 queries is 32 tokens high). blockIdx.x counts tiles: blocks that are resident together mostly
// share a key/value head, whose keys and values (2 MB for 4,096 tokens and D = 128) then come from the L2
// cache.
#pragma once

#include "kernels/attention/attention_inputs.cuh"

namespace terroir::cuda::attention::mma {

using BFloat = __nv_bfloat16;

// What decides who sees whom: {position, document}.
__device__ __forceinline__ int2 ids_at(const Tokens& tokens, int batch, int token) {
  return make_int2(tokens.positions[batch * tokens.positions_stride + token],
                   tokens.documents[batch * tokens.documents_stride + token]);
}
__device__ __forceinline__ bool sees(int query_position, int query_document, int key_position,
                                     int key_document) {
  return key_document == query_document && key_position <= query_position;
}

// The query heads of a block's batch item that use its key/value head; perhaps none.
struct Group {
  int batch, kv_head, first_head, num_heads;
  int num_queries;      // tokens x heads
  unsigned reciprocal;  // of num_heads, times 2^31, rounded up
};
__device__ __forceinline__ Group group_of_block(const Inputs<BFloat>& in) {
  const int kv_head = static_cast<int>(blockIdx.y), first = kv_head * in.heads_per_kv - in.head_offset;
  const int begin = min(max(first, 0), in.num_heads);
  const int count = min(max(first + in.heads_per_kv, 0), in.num_heads) - begin;
  return {static_cast<int>(blockIdx.z),
          kv_head,
          begin,
          count,
          static_cast<int>(in.num_queries) * count,
          (1U << 31) / static_cast<unsigned>(max(count, 1)) + 1};
}

// Queries [first, first + rows) of a group as far as they exist.
class QueryTile {
 public:
  // REQUIRES: first < group.num_queries.
  __device__ __forceinline__ QueryTile(const Group& group, int first, int rows)
      : first_token(first / group.num_heads),
        skipped_heads_(first - first_token * group.num_heads),
        group_(group),
        count(min(rows, group.num_queries - first)) {}

  // Token and head of a row; the last existing row's for those beyond.
  __device__ __forceinline__ int2 at(int row) const {
    const int n = skipped_heads_ + min(row, count - 1);
    // n / num_heads: exact, since n times num_heads is far below 2^31.
    const int token = static_cast<int>(std::uint64_t{static_cast<unsigned>(n)} * group_.reciprocal >> 31);
    return make_int2(first_token + token, group_.first_head + n - token * group_.num_heads);
  }
  const int first_token;

 private:
  const int skipped_heads_;
  const Group& group_;

 public:
  const int count;
};

enum class Owner { kQueries, kKeys };  // whose tile a block keeps; the other's tiles pass by
enum Sight : std::uint8_t { kSeesNone, kSeesSome, kSeesAll };

// Smallest and largest position and document of a block's own tokens.
struct Extent {
  int min_position, max_position, min_document, max_document;

  // Whether a token of the other kind may see or be seen by one of these, and whether by all.
  template <Owner kOwner>
  __device__ __forceinline__ bool meets_some(int2 other) const {
    const bool in_order = kOwner == Owner::kQueries ? other.x <= max_position : other.x >= min_position;
    return in_order && other.y >= min_document && other.y <= max_document;
  }
  template <Owner kOwner>
  __device__ __forceinline__ bool meets_all(int2 other) const {
    const bool in_order = kOwner == Owner::kQueries ? other.x <= min_position : other.x >= max_position;
    return in_order && other.y == min_document && min_document == max_document;
  }
};

// Of the tokens [begin, end), at least one. Called by a whole warp; every lane gets it.
__device__ __forceinline__ Extent extent_of(const Tokens& tokens, int batch, int begin, int end) {
  const int lane = threadIdx.x % kWarpSize;
  int2 ids = ids_at(tokens, batch, min(begin + lane, end - 1));
  Extent e = {ids.x, ids.x, ids.y, ids.y};
  for (int i = begin + lane + kWarpSize; i < end; i += kWarpSize) {
    ids = ids_at(tokens, batch, i);
    e = {min(e.min_position, ids.x), max(e.max_position, ids.x), min(e.min_document, ids.y),
         max(e.max_document, ids.y)};
  }
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    e.min_position = min(e.min_position, __shfl_xor_sync(kFullWarp, e.min_position, offset));
    e.max_position = max(e.max_position, __shfl_xor_sync(kFullWarp, e.max_position, offset));
    e.min_document = min(e.min_document, __shfl_xor_sync(kFullWarp, e.min_document, offset));
    e.max_document = max(e.max_document, __shfl_xor_sync(kFullWarp, e.max_document, offset));
  }
  return e;
}

// A tile to visit, or tile -1 after the last.
struct Visit {
  int tile;
  Sight sight;
};

// Walks over the other side's tiles of kTileRows keys or queries, in order, leaving out those that meet none
// of the block's own tokens. A warp decides a tile with two votes over its tokens' positions and documents: a
// few per cent of the work of a visited tile, and no kernel has to prepare anything. All threads of the block
// call the same functions together.
template <Owner kOwner, int kTileRows>
class Walk {
 public:
  static constexpr int kMapTiles = 256;
  struct Shared {
    Extent own;
    std::uint8_t sights[kMapTiles];  // of the tiles from map_begin_ on
  };

  // REQUIRES: shared.own is set; a barrier is not needed.
  __device__ __forceinline__ Walk(const Tokens& others, int num_others, const Group& group, Shared& shared)
      : others_(others), num_others_(num_others), group_(group), shared_(shared) {
    num_tiles_ = (num_others + kTileRows - 1) / kTileRows;
  }

  // The first tile to visit from `tile` on; `tile` never decreases.
  __device__ __forceinline__ Visit next(int tile) {
    const int lane = threadIdx.x % kWarpSize;
    while (true) {
      for (; tile < map_end_; tile += kWarpSize) {
        const int mine = tile + lane;
        const int sight = mine < map_end_ ? shared_.sights[mine % kMapTiles] : int{kSeesNone};
        const unsigned seen = __ballot_sync(kFullWarp, sight != kSeesNone);
        if (seen == 0) continue;
        const int first = __ffs(static_cast<int>(seen)) - 1;
        return {tile + first, static_cast<Sight>(__shfl_sync(kFullWarp, sight, first))};
      }
      if (map_end_ == num_tiles_) return {-1, kSeesNone};
      tile = map_end_;
      extend_map();
    }
  }

 private:
  __device__ __forceinline__ void extend_map() {
    __syncthreads();
    const Extent own = shared_.own;
    const int end = min(num_tiles_, map_end_ + kMapTiles);
    for (int tile = map_end_ + static_cast<int>(threadIdx.x) / kWarpSize; tile < end;
         tile += static_cast<int>(blockDim.x) / kWarpSize) {
      const Sight sight = look_at(tile, own);
      if (threadIdx.x % kWarpSize == 0) shared_.sights[tile % kMapTiles] = sight;
    }
    map_end_ = end;
    __syncthreads();
  }

  // A tile with keys beyond the last one is masked; queries beyond the last one have a weight of 0 anyway.
  __device__ __forceinline__ Sight look_at(int tile, const Extent& own) const {
    int begin = tile * kTileRows, end = min(begin + kTileRows, num_others_);
    bool some = false, all = kOwner == Owner::kKeys || end == begin + kTileRows;
    if constexpr (kOwner == Owner::kKeys) {
      begin = begin / group_.num_heads;
      end = (end - 1) / group_.num_heads + 1;
    }
    for (int i = begin + static_cast<int>(threadIdx.x) % kWarpSize; i < end; i += kWarpSize) {
      const int2 ids = ids_at(others_, group_.batch, i);
      some |= own.meets_some<kOwner>(ids);
      all &= own.meets_all<kOwner>(ids);
    }
    some = __any_sync(kFullWarp, some) != 0;
    all = __all_sync(kFullWarp, all) != 0;
    return !some ? kSeesNone : all ? kSeesAll : kSeesSome;
  }

  const Tokens& others_;
  const int num_others_;
  const Group& group_;
  Shared& shared_;
  int num_tiles_, map_end_ = 0;
};

// Blocks for tiles of `rows` queries or keys of every key/value head and batch item. Where a group has fewer
// query heads than the largest, some are idle.
inline dim3 query_grid(const AttentionInputs& inputs, int rows) {
  const std::int64_t heads = min(inputs.options.q_heads_per_kv, inputs.q.size(2));
  return dim3(static_cast<unsigned>(ceil_div(inputs.q.size(1) * heads, rows)),
              static_cast<unsigned>(inputs.k.size(2)), static_cast<unsigned>(inputs.q.size(0)));
}
inline dim3 key_grid(const AttentionInputs& inputs, int rows, int parts) {
  return dim3(static_cast<unsigned>(ceil_div(inputs.k.size(1), rows) * parts),
              static_cast<unsigned>(inputs.k.size(2)), static_cast<unsigned>(inputs.q.size(0)));
}

}  // namespace terroir::cuda::attention::mma
