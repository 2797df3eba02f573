// The tensors of an attention as kernels see them. Shape letters as in attention.h.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/cuda/device.cuh"

namespace terroir::cuda::attention {

constexpr float kLog2E = 1.44269504F, kLn2 = 0.693147182F;

// The rows [D] of a tensor [B, T, heads, D].
template <class T>
struct HeadRows {
  T* data;
  std::int64_t batch_stride, token_stride, head_stride;

  __device__ T* row(std::int64_t batch, std::int64_t token, std::int64_t head) const {
    return data + batch * batch_stride + token * token_stride + head * head_stride;
  }
};
template <class T, class AnyView>
HeadRows<T> head_rows(const AnyView& view) {
  return {static_cast<T*>(const_cast<void*>(static_cast<const void*>(view.raw()))), view.stride(0),
          view.stride(1), view.stride(2)};
}

// f32 or i32 [B, heads, T] or [B, T], innermost contiguous.
struct Tokens {
  const std::int32_t *positions, *documents;
  std::int64_t positions_stride, documents_stride;  // from one batch item to the next
};

template <class T>
struct Inputs {
  HeadRows<const T> q, k, v;
  Tokens queries, keys;
  std::int64_t num_queries, num_keys;
  int num_heads, num_kv_heads, head_size, heads_per_kv, head_offset;
  float scale;

  __device__ int kv_head(int head) const { return (head + head_offset) / heads_per_kv; }
};
template <class T>
Inputs<T> kernel_inputs(const AttentionInputs& in) {
  const auto tokens = [](const ConstView& positions, const ConstView& documents) {
    return Tokens{static_cast<const std::int32_t*>(positions.raw()),
                  static_cast<const std::int32_t*>(documents.raw()), positions.stride(0),
                  documents.stride(0)};
  };
  return {head_rows<const T>(in.q),
          head_rows<const T>(in.k),
          head_rows<const T>(in.v),
          tokens(in.positions_q, in.documents_q),
          tokens(in.positions_k, in.documents_k),
          in.q.size(1),
          in.k.size(1),
          static_cast<int>(in.q.size(2)),
          static_cast<int>(in.k.size(2)),
          static_cast<int>(in.q.size(3)),
          static_cast<int>(in.options.q_heads_per_kv),
          static_cast<int>(in.options.q_head_offset),
          in.options.scale};
}

}  // namespace terroir::cuda::attention
