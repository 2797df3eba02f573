// What the SIMT attention kernels share: how they find tiles and which keys a query sees.
//
// Shape letters as in attention.h. A block has kWarps warps and works on tiles of kTile = 32 queries and 32
// keys: one row of one side for each lane, and kRowsPerWarp rows of the other for each warp. Rows lie in
// shared memory as f32, kStride elements apart, so that 32 lanes which read the same column of their rows use
// 32 banks. Heads smaller than 32 kChunks are padded with zeros.
#pragma once

#include "kernels/attention/attention_inputs.cuh"

namespace terroir::cuda::attention {

constexpr int kTile = kWarpSize;
constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kRowsPerWarp = kTile / kWarps;

// Where a lane's token stands. Lanes beyond the last token stand nowhere: document -1 of their own kind is
// never asked, since `valid` comes first.
struct Place {
  int position, document;
  bool valid;
};
__device__ __forceinline__ Place place_of(const Tokens& tokens, std::int64_t batch, std::int64_t token,
                                          std::int64_t count) {
  if (token >= count) return {0, 0, false};
  return {tokens.positions[batch * tokens.positions_stride + token],
          tokens.documents[batch * tokens.documents_stride + token], true};
}
__device__ __forceinline__ bool sees(const Place& query, const Place& key) {
  return query.valid && key.valid && query.document == key.document && key.position <= query.position;
}

// Smallest and largest of a warp's places.
struct Extent {
  int min_position, max_position, min_document, max_document;
};
__device__ __forceinline__ Extent extent_of(const Place& place) {
  constexpr int kMost = 0x7FFFFFFF, kLeast = -0x7FFFFFFF - 1;
  Extent e = {place.valid ? place.position : kMost, place.valid ? place.position : kLeast,
              place.valid ? place.document : kMost, place.valid ? place.document : kLeast};
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    e.min_position = min(e.min_position, __shfl_xor_sync(kFullWarp, e.min_position, offset));
    e.max_position = max(e.max_position, __shfl_xor_sync(kFullWarp, e.max_position, offset));
    e.min_document = min(e.min_document, __shfl_xor_sync(kFullWarp, e.min_document, offset));
    e.max_document = max(e.max_document, __shfl_xor_sync(kFullWarp, e.max_document, offset));
  }
  return e;
}
__device__ __forceinline__ bool may_see(const Extent& queries, const Extent& keys) {
  return keys.min_position <= queries.max_position && keys.min_document <= queries.max_document &&
         keys.max_document >= queries.min_document;
}

template <int kChunks>
constexpr int kStride = kChunks* kWarpSize + 1;
template <int kChunks>
constexpr int kTileFloats = kTile* kStride<kChunks>;

// Rows [first, first + 32) of one head into shared memory, zeros beyond the last token and the head's size.
// All threads of the block; a barrier must follow.
template <int kChunks, class T>
__device__ void load_tile(float* tile, const HeadRows<const T>& rows, std::int64_t batch, std::int64_t first,
                          std::int64_t count, int head, int head_size) {
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  for (int r = warp; r < kTile; r += kWarps) {
    const bool exists = first + r < count;
    const T* from = exists ? rows.row(batch, first + r, head) : nullptr;
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const int d = chunk * kWarpSize + lane;
      tile[r * kStride<kChunks> + d] = exists && d < head_size ? to_float(from[d]) : 0.0F;
    }
  }
}

// dots[i] = <row first_row + i of `mine`, row `lane` of `others`>
template <int kChunks>
__device__ __forceinline__ void dot_rows(float (&dots)[kRowsPerWarp], const float* mine, int first_row,
                                         const float* others, int lane) {
#pragma unroll
  for (int i = 0; i < kRowsPerWarp; ++i) dots[i] = 0;
#pragma unroll 8
  for (int d = 0; d < kChunks * kWarpSize; ++d) {
    const float other = others[lane * kStride<kChunks> + d];
#pragma unroll
    for (int i = 0; i < kRowsPerWarp; ++i)
      dots[i] = fmaf(mine[(first_row + i) * kStride<kChunks> + d], other, dots[i]);
  }
}

// A warp's weights of the 32 rows of a tile, for each of its own rows: [kRowsPerWarp][32] in shared memory.
constexpr int kWeightFloats = kWarps * kRowsPerWarp * kTile;

// sums[i][chunk] += sum over the 32 rows r of `rows`: weight[i] of lane r * rows[r][32 chunk + lane].
// `exchange`: this warp's kRowsPerWarp x 32 floats of shared memory, through which the lanes see each other's
// weights.
template <int kChunks>
__device__ __forceinline__ void add_weighted_rows(float (&sums)[kRowsPerWarp][kChunks],
                                                  const float (&weight)[kRowsPerWarp], const float* rows,
                                                  float* exchange, int lane) {
  __syncwarp();  // what was there before has been read
#pragma unroll
  for (int i = 0; i < kRowsPerWarp; ++i) exchange[i * kTile + lane] = weight[i];
  __syncwarp();
#pragma unroll 4
  for (int r = 0; r < kTile; ++r) {
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const float value = rows[r * kStride<kChunks> + chunk * kWarpSize + lane];
#pragma unroll
      for (int i = 0; i < kRowsPerWarp; ++i)
        sums[i][chunk] = fmaf(exchange[i * kTile + r], value, sums[i][chunk]);
    }
  }
}

// Calls body.template operator()<kChunks>() for the smallest instance that a head fits.
template <class Body>
void for_head_size(std::int64_t head_size, Body&& body) {
  if (head_size <= 64) return body.template operator()<2>();
  if (head_size <= 128) return body.template operator()<4>();
  return body.template operator()<8>();
}

}  // namespace terroir::cuda::attention
