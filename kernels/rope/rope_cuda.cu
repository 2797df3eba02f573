#include "kernels/rope/rope.h"
#include "kernels/rope/rotate.cuh"

namespace terroir::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeads = 4;  // of one token, which a thread loads before it stores the first

template <class T>
struct Rope {
  T* x;
  std::int64_t token_stride, head_stride;
  const std::int32_t* positions;
  const float* table;
  std::int64_t table_stride;
  std::int64_t tokens, heads, half;
  bool inverse;
};

// Each thread turns the same kWidth planes of kHeads heads: elements [i, i + kWidth) of both halves.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) rope_kernel(Rope<T> p) {
  const std::int64_t groups = (p.heads + kHeads - 1) / kHeads, pieces = p.half / kWidth;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t group_index = index / pieces, token = group_index / groups;
  if (token >= p.tokens) return;
  const std::int64_t i = (index - group_index * pieces) * kWidth;
  const std::int64_t first_head = (group_index - token * groups) * kHeads;
  T* x = p.x + token * p.token_stride + first_head * p.head_stride + i;

  Vector<T, kWidth> first[kHeads], second[kHeads];
#pragma unroll
  for (int head = 0; head < kHeads; ++head) {
    if (first_head + head >= p.heads) continue;
    first[head] = *reinterpret_cast<const Vector<T, kWidth>*>(x + head * p.head_stride);
    second[head] = *reinterpret_cast<const Vector<T, kWidth>*>(x + head * p.head_stride + p.half);
  }
  const float* row = p.table + p.positions[token] * p.table_stride + i;
  float cosines[kWidth], sines[kWidth];
  load_angles(row, cosines);
  load_angles(row + p.half, sines);
#pragma unroll
  for (int head = 0; head < kHeads; ++head) {
    if (first_head + head >= p.heads) continue;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      float a = to_float(first[head].v[e]), b = to_float(second[head].v[e]);
      rotate(a, b, cosines[e], sines[e], p.inverse);
      first[head].v[e] = from_float<T>(a);
      second[head].v[e] = from_float<T>(b);
    }
    *reinterpret_cast<Vector<T, kWidth>*>(x + head * p.head_stride) = first[head];
    *reinterpret_cast<Vector<T, kWidth>*>(x + head * p.head_stride + p.half) = second[head];
  }
}

template <class T, int kWidth>
void launch_rope(const OpContext& ctx, const Rope<T>& p) {
  const std::int64_t threads = p.tokens * ceil_div(p.heads, kHeads) * (p.half / kWidth);
  launch(rope_kernel<T, kWidth>, dim3(static_cast<unsigned>(ceil_div(threads, kThreads))), dim3(kThreads), 0,
         native_stream(ctx), p);
}

template <class T>
void apply(const OpContext& ctx, const RopeArgs& args) {
  constexpr int kWidth = kVectorElements<T>;
  const Rope<T> p = {.x = static_cast<T*>(args.x.raw()),
                     .token_stride = args.x.stride(0),
                     .head_stride = args.x.stride(1),
                     .positions = static_cast<const std::int32_t*>(args.positions.raw()),
                     .table = static_cast<const float*>(args.table.raw()),
                     .table_stride = args.table.stride(0),
                     .tokens = args.x.size(0),
                     .heads = args.x.size(1),
                     .half = args.x.size(2) / 2,
                     .inverse = args.inverse};
  const bool vectorize = p.half % kWidth == 0 && is_vectorizable(p.x, p.token_stride) &&
                         p.head_stride % kWidth == 0 && is_vectorizable(p.table, p.table_stride);
  if (vectorize) {
    launch_rope<T, kWidth>(ctx, p);
  } else {
    launch_rope<T, 1>(ctx, p);
  }
}

}  // namespace

void rope_apply(OpContext& ctx, const RopeArgs& args) {
  if (args.x.dtype() == DType::kBF16) {
    apply<__nv_bfloat16>(ctx, args);
  } else {
    apply<float>(ctx, args);
  }
}

}  // namespace terroir::cuda
