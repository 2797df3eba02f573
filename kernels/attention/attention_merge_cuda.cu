#include "kernels/attention/attention_simt.cuh"

namespace terroir::cuda {
namespace attention {
namespace {

// lse [B, Hq, Tq], innermost contiguous.
struct Lse {
  float* data;
  std::int64_t batch_stride, head_stride;
  __device__ float& at(std::int64_t batch, std::int64_t head, std::int64_t token) const {
    return data[batch * batch_stride + head * head_stride + token];
  }
};

// A warp for each row of one head.
template <class T>
__global__ void __launch_bounds__(kThreads) merge_kernel(HeadRows<T> o_a, HeadRows<const T> o_b, Lse lse_a,
                                                         Lse lse_b, std::int64_t num_queries, int head_size) {
  const int lane = threadIdx.x % kWarpSize, head = blockIdx.y;
  const std::int64_t batch = blockIdx.z, token = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize;
  if (token >= num_queries) return;
  const float a = lse_a.at(batch, head, token), b = lse_b.at(batch, head, token);
  const float largest = fmaxf(a, b);
  if (largest == -INFINITY) return;  // neither has seen a key: zeros stay zeros
  const float weight_a = expf(a - largest), weight_b = expf(b - largest), sum = weight_a + weight_b;
  T* row_a = o_a.row(batch, token, head);
  const T* row_b = o_b.row(batch, token, head);
  for (int d = lane; d < head_size; d += kWarpSize)
    row_a[d] = from_float<T>((weight_a * to_float(row_a[d]) + weight_b * to_float(row_b[d])) / sum);
  __syncwarp();  // every lane has read lse
  if (lane == 0) lse_a.at(batch, head, token) = largest + logf(sum);
}

template <class T>
void merge(OpContext& ctx, const AttentionMergeArgs& args) {
  const auto lse = [](const ConstView& view) {
    return Lse{static_cast<float*>(const_cast<void*>(view.raw())), view.stride(0), view.stride(1)};
  };
  const std::int64_t num_queries = args.o_a.size(1);
  const dim3 grid(static_cast<unsigned>(ceil_div(num_queries, kWarps)),
                  static_cast<unsigned>(args.o_a.size(2)), static_cast<unsigned>(args.o_a.size(0)));
  launch(merge_kernel<T>, grid, kThreads, 0, native_stream(ctx), head_rows<T>(args.o_a),
         head_rows<const T>(args.o_b), lse(args.lse_a), lse(args.lse_b), num_queries,
         static_cast<int>(args.o_a.size(3)));
}

}  // namespace
}  // namespace attention

void attention_merge(OpContext& ctx, const AttentionMergeArgs& args) {
  if (args.o_a.dtype() == DType::kBF16)
    attention::merge<__nv_bfloat16>(ctx, args);
  else
    attention::merge<float>(ctx, args);
}

}  // namespace terroir::cuda
