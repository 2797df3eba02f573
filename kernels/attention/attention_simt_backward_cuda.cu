// Attention backward on plain CUDA cores. With P = exp(scale q k^T - lse) and dP = dO v^T,
//   dS = scale P (dP - rowsum(dO O))      dQ = dS k      dK += dS^T q      dV += P^T dO
#include "kernels/attention/attention_own.h"
#include "kernels/attention/attention_simt.cuh"

namespace terroir::cuda {
namespace attention {
namespace {

template <class T>
struct Gradients {
  HeadRows<const T> o, dout;
  HeadRows<T> dq, dk, dv;
  const float* lse;  // [B, Hq, Tq]
  std::int64_t lse_batch_stride, lse_head_stride;
  float* row_sums;  // [B, Hq, Tq]: of dO O
};

template <class T>
__device__ std::int64_t lse_index(const Gradients<T>& g, std::int64_t batch, int head) {
  return batch * g.lse_batch_stride + head * g.lse_head_stride;
}
template <class T>
__device__ std::int64_t sum_index(const Inputs<T>& in, std::int64_t batch, int head) {
  return (batch * in.num_heads + head) * in.num_queries;
}

// A warp for each row.
template <class T>
__global__ void __launch_bounds__(kThreads, 2) row_sums_kernel(Inputs<T> in, Gradients<T> g) {
  const int lane = threadIdx.x % kWarpSize, head = blockIdx.y;
  const std::int64_t batch = blockIdx.z, token = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize;
  if (token >= in.num_queries) return;
  const T *o = g.o.row(batch, token, head), *dout = g.dout.row(batch, token, head);
  float sum = 0;
  for (int d = lane; d < in.head_size; d += kWarpSize) sum = fmaf(to_float(o[d]), to_float(dout[d]), sum);
  sum = warp_sum(sum);
  if (lane == 0) g.row_sums[sum_index(in, batch, head) + token] = sum;
}

// Block (query tile, query head, batch item); lanes are keys, as in the forward.
template <class T, int kChunks>
__global__ void __launch_bounds__(kThreads, 2) query_gradient_kernel(Inputs<T> in, Gradients<T> g) {
  DYNAMIC_SHARED(float, shared);
  float* q_tile = shared;
  float* dout_tile = shared + kTileFloats<kChunks>;
  float* k_tile = shared + 2 * kTileFloats<kChunks>;
  float* v_tile = shared + 3 * kTileFloats<kChunks>;
  float* exchange = shared + 4 * kTileFloats<kChunks> + threadIdx.x / kWarpSize * kRowsPerWarp * kTile;
  const int lane = threadIdx.x % kWarpSize, first_row = threadIdx.x / kWarpSize * kRowsPerWarp;
  const int head = blockIdx.y, kv_head = in.kv_head(head);
  const std::int64_t batch = blockIdx.z, first_query = std::int64_t{blockIdx.x} * kTile;

  load_tile<kChunks>(q_tile, in.q, batch, first_query, in.num_queries, head, in.head_size);
  load_tile<kChunks>(dout_tile, g.dout, batch, first_query, in.num_queries, head, in.head_size);
  const Extent queries = extent_of(place_of(in.queries, batch, first_query + lane, in.num_queries));
  Place query[kRowsPerWarp];
  float lse[kRowsPerWarp], row_sum[kRowsPerWarp], dq[kRowsPerWarp][kChunks];
#pragma unroll
  for (int i = 0; i < kRowsPerWarp; ++i) {
    const std::int64_t token = first_query + first_row + i;
    query[i] = place_of(in.queries, batch, token, in.num_queries);
    lse[i] = query[i].valid ? g.lse[lse_index(g, batch, head) + token] * kLog2E : 0.0F;
    row_sum[i] = query[i].valid ? g.row_sums[sum_index(in, batch, head) + token] : 0.0F;
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) dq[i][chunk] = 0;
  }

  for (std::int64_t first_key = 0; first_key < in.num_keys; first_key += kTile) {
    const Place key = place_of(in.keys, batch, first_key + lane, in.num_keys);
    if (!may_see(queries, extent_of(key))) continue;
    __syncthreads();
    load_tile<kChunks>(k_tile, in.k, batch, first_key, in.num_keys, kv_head, in.head_size);
    load_tile<kChunks>(v_tile, in.v, batch, first_key, in.num_keys, kv_head, in.head_size);
    __syncthreads();
    float s[kRowsPerWarp], dp[kRowsPerWarp];
    dot_rows<kChunks>(s, q_tile, first_row, k_tile, lane);
    dot_rows<kChunks>(dp, dout_tile, first_row, v_tile, lane);
#pragma unroll
    for (int i = 0; i < kRowsPerWarp; ++i) {
      const float p = sees(query[i], key) ? exp2f(s[i] * in.scale * kLog2E - lse[i]) : 0.0F;
      s[i] = p * (dp[i] - row_sum[i]) * in.scale;
    }
    add_weighted_rows<kChunks>(dq, s, k_tile, exchange, lane);
  }

#pragma unroll
  for (int i = 0; i < kRowsPerWarp; ++i) {
    const std::int64_t token = first_query + first_row + i;
    if (token >= in.num_queries) continue;
    T* row = g.dq.row(batch, token, head);
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const int d = chunk * kWarpSize + lane;
      if (d < in.head_size) row[d] = from_float<T>(dq[i][chunk]);
    }
  }
}

// Block (key tile, key/value head, batch item); lanes are queries, a warp has kRowsPerWarp keys. Query heads
// of the group and their tiles are taken one after another, in order.
template <class T, int kChunks>
__global__ void __launch_bounds__(kThreads, 2) key_gradient_kernel(Inputs<T> in, Gradients<T> g) {
  DYNAMIC_SHARED(float, shared);
  float* k_tile = shared;
  float* v_tile = shared + kTileFloats<kChunks>;
  float* q_tile = shared + 2 * kTileFloats<kChunks>;
  float* dout_tile = shared + 3 * kTileFloats<kChunks>;
  float* exchange = shared + 4 * kTileFloats<kChunks> + threadIdx.x / kWarpSize * kRowsPerWarp * kTile;
  const int lane = threadIdx.x % kWarpSize, first_row = threadIdx.x / kWarpSize * kRowsPerWarp;
  const int kv_head = blockIdx.y;
  const std::int64_t batch = blockIdx.z, first_key = std::int64_t{blockIdx.x} * kTile;

  load_tile<kChunks>(k_tile, in.k, batch, first_key, in.num_keys, kv_head, in.head_size);
  load_tile<kChunks>(v_tile, in.v, batch, first_key, in.num_keys, kv_head, in.head_size);
  const Extent keys = extent_of(place_of(in.keys, batch, first_key + lane, in.num_keys));
  Place key[kRowsPerWarp];
  float dk[kRowsPerWarp][kChunks], dv[kRowsPerWarp][kChunks];
#pragma unroll
  for (int i = 0; i < kRowsPerWarp; ++i) {
    key[i] = place_of(in.keys, batch, first_key + first_row + i, in.num_keys);
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) dk[i][chunk] = dv[i][chunk] = 0;
  }

  const int first_head = max(0, kv_head * in.heads_per_kv - in.head_offset);
  const int last_head = min(in.num_heads, (kv_head + 1) * in.heads_per_kv - in.head_offset);
  for (int head = first_head; head < last_head; ++head)
    for (std::int64_t first_query = 0; first_query < in.num_queries; first_query += kTile) {
      const std::int64_t token = first_query + lane;
      const Place query = place_of(in.queries, batch, token, in.num_queries);
      if (!may_see(extent_of(query), keys)) continue;
      __syncthreads();
      load_tile<kChunks>(q_tile, in.q, batch, first_query, in.num_queries, head, in.head_size);
      load_tile<kChunks>(dout_tile, g.dout, batch, first_query, in.num_queries, head, in.head_size);
      __syncthreads();
      const float lse = query.valid ? g.lse[lse_index(g, batch, head) + token] * kLog2E : 0.0F;
      const float row_sum = query.valid ? g.row_sums[sum_index(in, batch, head) + token] : 0.0F;
      float p[kRowsPerWarp], ds[kRowsPerWarp];
      dot_rows<kChunks>(p, k_tile, first_row, q_tile, lane);
      dot_rows<kChunks>(ds, v_tile, first_row, dout_tile, lane);
#pragma unroll
      for (int i = 0; i < kRowsPerWarp; ++i) {
        p[i] = sees(query, key[i]) ? exp2f(p[i] * in.scale * kLog2E - lse) : 0.0F;
        ds[i] = p[i] * (ds[i] - row_sum) * in.scale;
      }
      add_weighted_rows<kChunks>(dv, p, dout_tile, exchange, lane);
      add_weighted_rows<kChunks>(dk, ds, q_tile, exchange, lane);
    }

#pragma unroll
  for (int i = 0; i < kRowsPerWarp; ++i) {
    const std::int64_t token = first_key + first_row + i;
    if (token >= in.num_keys) continue;
    T *dk_row = g.dk.row(batch, token, kv_head), *dv_row = g.dv.row(batch, token, kv_head);
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const int d = chunk * kWarpSize + lane;
      if (d >= in.head_size) continue;
      dk_row[d] = from_float<T>(dk[i][chunk]);
      dv_row[d] = from_float<T>(dv[i][chunk]);
    }
  }
}

template <class T>
void backward(OpContext& ctx, const AttentionBackwardArgs& args) {
  const Inputs<T> in = kernel_inputs<T>(args.inputs);
  const Gradients<T> g = {head_rows<const T>(args.o),
                          head_rows<const T>(args.dout),
                          head_rows<T>(args.dq),
                          head_rows<T>(args.dk),
                          head_rows<T>(args.dv),
                          static_cast<const float*>(args.lse.raw()),
                          args.lse.stride(0),
                          args.lse.stride(1),
                          static_cast<float*>(args.workspace.raw())};
  const auto grid = [&](std::int64_t tokens, int tile, int heads) {
    return dim3(static_cast<unsigned>(ceil_div(tokens, tile)), static_cast<unsigned>(heads),
                static_cast<unsigned>(args.inputs.q.size(0)));
  };
  launch(row_sums_kernel<T>, grid(in.num_queries, kWarps, in.num_heads), kThreads, 0, native_stream(ctx), in,
         g);
  for_head_size(in.head_size, [&]<int kChunks>() {
    constexpr std::size_t kBytes = (4 * kTileFloats<kChunks> + kWeightFloats) * sizeof(float);
    allow_shared_memory(query_gradient_kernel<T, kChunks>, kBytes);
    allow_shared_memory(key_gradient_kernel<T, kChunks>, kBytes);
    launch(query_gradient_kernel<T, kChunks>, grid(in.num_queries, kTile, in.num_heads), kThreads, kBytes,
           native_stream(ctx), in, g);
    launch(key_gradient_kernel<T, kChunks>, grid(in.num_keys, kTile, in.num_kv_heads), kThreads, kBytes,
           native_stream(ctx), in, g);
  });
}

}  // namespace
}  // namespace attention

void attention_backward_simt(OpContext& ctx, const AttentionBackwardArgs& args) {
  if (args.inputs.q.dtype() == DType::kBF16)
    attention::backward<__nv_bfloat16>(ctx, args);
  else
    attention::backward<float>(ctx, args);
}

}  // namespace terroir::cuda
