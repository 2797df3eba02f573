// Attention forward on plain CUDA cores: for f32, and for shapes that the tensor-core kernel does not take.
#include "kernels/attention/attention_own.h"
#include "kernels/attention/attention_simt.cuh"

namespace terroir::cuda {
namespace attention {
namespace {

template <class T>
struct Outputs {
  HeadRows<T> o;
  float* lse;  // [B, Hq, Tq]
  std::int64_t lse_batch_stride, lse_head_stride;
};

// Block (query tile, query head, batch item): a lane is a key of the tile at hand, a warp has kRowsPerWarp
// queries.
template <class T, int kChunks>
__global__ void __launch_bounds__(kThreads, 2) forward_kernel(Inputs<T> in, Outputs<T> out) {
  DYNAMIC_SHARED(float, shared);
  float* q_tile = shared;
  float* k_tile = shared + kTileFloats<kChunks>;
  float* v_tile = shared + 2 * kTileFloats<kChunks>;
  float* exchange = shared + 3 * kTileFloats<kChunks> + threadIdx.x / kWarpSize * kRowsPerWarp * kTile;
  const int lane = threadIdx.x % kWarpSize, first_row = threadIdx.x / kWarpSize * kRowsPerWarp;
  const int head = blockIdx.y, kv_head = in.kv_head(head);
  const std::int64_t batch = blockIdx.z, first_query = std::int64_t{blockIdx.x} * kTile;

  load_tile<kChunks>(q_tile, in.q, batch, first_query, in.num_queries, head, in.head_size);
  const Extent queries = extent_of(place_of(in.queries, batch, first_query + lane, in.num_queries));
  Place query[kRowsPerWarp];
  float largest[kRowsPerWarp], sum[kRowsPerWarp], o[kRowsPerWarp][kChunks];
#pragma unroll
  for (int i = 0; i < kRowsPerWarp; ++i) {
    query[i] = place_of(in.queries, batch, first_query + first_row + i, in.num_queries);
    largest[i] = -INFINITY;
    sum[i] = 0;
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) o[i][chunk] = 0;
  }

  const float to_log2 = in.scale * kLog2E;
  for (std::int64_t first_key = 0; first_key < in.num_keys; first_key += kTile) {
    const Place key = place_of(in.keys, batch, first_key + lane, in.num_keys);
    if (!may_see(queries, extent_of(key))) continue;  // the same in all warps
    __syncthreads();                                  // the tiles before have been read
    load_tile<kChunks>(k_tile, in.k, batch, first_key, in.num_keys, kv_head, in.head_size);
    load_tile<kChunks>(v_tile, in.v, batch, first_key, in.num_keys, kv_head, in.head_size);
    __syncthreads();
    float p[kRowsPerWarp];
    dot_rows<kChunks>(p, q_tile, first_row, k_tile, lane);
#pragma unroll
    for (int i = 0; i < kRowsPerWarp; ++i) {
      const bool visible = sees(query[i], key);
      const float s = visible ? p[i] * to_log2 : -INFINITY;
      const float before = largest[i];
      largest[i] = fmaxf(before, warp_max(s));
      // Nothing seen so far: all weights are zero, not exp2(-inf + inf).
      const float base = largest[i] == -INFINITY ? 0.0F : largest[i];
      const float shrink = exp2f(before - base);
      p[i] = visible ? exp2f(s - base) : 0.0F;
      sum[i] = sum[i] * shrink + warp_sum(p[i]);
#pragma unroll
      for (int chunk = 0; chunk < kChunks; ++chunk) o[i][chunk] *= shrink;
    }
    add_weighted_rows<kChunks>(o, p, v_tile, exchange, lane);
  }

#pragma unroll
  for (int i = 0; i < kRowsPerWarp; ++i) {
    const std::int64_t token = first_query + first_row + i;
    if (token >= in.num_queries) continue;
    const float factor = sum[i] == 0 ? 0.0F : 1 / sum[i];
    T* row = out.o.row(batch, token, head);
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const int d = chunk * kWarpSize + lane;
      if (d < in.head_size) row[d] = from_float<T>(o[i][chunk] * factor);
    }
    if (lane == 0)
      out.lse[batch * out.lse_batch_stride + head * out.lse_head_stride + token] =
          sum[i] == 0 ? -INFINITY : largest[i] * kLn2 + logf(sum[i]);
  }
}

template <class T>
void forward(OpContext& ctx, const AttentionForwardArgs& args) {
  const Inputs<T> in = kernel_inputs<T>(args.inputs);
  const Outputs<T> out = {head_rows<T>(args.o), static_cast<float*>(args.lse.raw()), args.lse.stride(0),
                          args.lse.stride(1)};
  for_head_size(in.head_size, [&]<int kChunks>() {
    constexpr std::size_t kBytes = (3 * kTileFloats<kChunks> + kWeightFloats) * sizeof(float);
    allow_shared_memory(forward_kernel<T, kChunks>, kBytes);
    const dim3 grid(static_cast<unsigned>(ceil_div(in.num_queries, kTile)),
                    static_cast<unsigned>(in.num_heads), static_cast<unsigned>(args.inputs.q.size(0)));
    launch(forward_kernel<T, kChunks>, grid, kThreads, kBytes, native_stream(ctx), in, out);
  });
}

}  // namespace
}  // namespace attention

void attention_forward_simt(OpContext& ctx, const AttentionForwardArgs& args) {
  if (args.inputs.q.dtype() == DType::kBF16)
    attention::forward<__nv_bfloat16>(ctx, args);
  else
    attention::forward<float>(ctx, args);
}

}  // namespace terroir::cuda
