// Walks strided views of one shape on the device: what elementwise CUDA kernels are made of. The counterpart
// of runs.h: neighbouring dimensions are merged on the host, each thread finds its elements from a number.
#pragma once

#include <array>

#include "kernels/cuda/device.cuh"
#include "kernels/tensor/rows.h"

namespace terroir::cuda {

// Passed to kernels by value: `num_rows` runs of `row_length` contiguous elements in each of N views.
template <int N>
struct DeviceRuns {
  static constexpr int kMaxOuter = 3;
  std::int64_t row_length = 1, num_rows = 1;
  int outer_rank = 0;
  std::int64_t sizes[kMaxOuter] = {};
  std::int64_t strides[N][kMaxOuter] = {};

  explicit DeviceRuns(const std::array<ConstView, N>& views) {
    const Rows<N> rows(views);
    row_length = rows.row_length();
    num_rows = rows.numel() == 0 ? 0 : rows.numel() / row_length;
    outer_rank = rows.outer_rank();
    for (int dim = 0; dim < outer_rank; ++dim) {
      sizes[dim] = rows.outer_size(dim);
      for (int v = 0; v < N; ++v) strides[v][dim] = rows.outer_stride(static_cast<std::size_t>(v), dim);
    }
  }

  // Whether every run, in each of the views this was made of, consists of whole and aligned pieces of `width`
  // elements.
  bool divisible(std::int64_t width, const std::array<ConstView, N>& views) const {
    bool result = row_length % width == 0;
    for (std::size_t v = 0; v < N; ++v) {
      const auto piece_bytes = static_cast<std::uintptr_t>(dtype_bytes(views[v].dtype()) * width);
      result = result && reinterpret_cast<std::uintptr_t>(views[v].raw()) % piece_bytes == 0;
      for (int dim = 0; dim < outer_rank; ++dim) result = result && strides[v][dim] % width == 0;
    }
    return result;
  }
};

// Where a piece begins in each view, in elements.
template <int N>
struct Offsets {
  std::int64_t v[N];
};

// Of piece `index` of runs cut into pieces of kWidth elements. 64-bit divisions are short where both operands
// are below 2^32, and none is needed for one contiguous run.
template <int kWidth, int N>
__device__ __forceinline__ Offsets<N> offsets_of(const DeviceRuns<N>& runs, std::int64_t index) {
  Offsets<N> at;
  std::int64_t row = 0, column = index;
  if (runs.num_rows > 1) {
    const std::int64_t pieces = runs.row_length / kWidth;
    row = index / pieces;
    column = index - row * pieces;
  }
#pragma unroll
  for (int view = 0; view < N; ++view) at.v[view] = column * kWidth;
#pragma unroll
  for (int dim = DeviceRuns<N>::kMaxOuter - 1; dim >= 0; --dim) {
    if (dim >= runs.outer_rank) continue;
    const std::int64_t next = dim == 0 ? 0 : row / runs.sizes[dim];
    const std::int64_t i = row - next * runs.sizes[dim];
    row = next;
#pragma unroll
    for (int view = 0; view < N; ++view) at.v[view] += i * runs.strides[view][dim];
  }
  return at;
}

constexpr int kRunThreads = 256;

// An Op is a small struct of pointers with
//   kViews, kPieces: how many views it has, and how many pieces a thread loads before it stores the first
//   Loaded<kWidth>: the inputs of a piece of kWidth elements
//   load<kWidth>(offsets), store<kWidth>(offsets, loaded)
template <int kWidth, class Op>
__global__ void __launch_bounds__(kRunThreads) run_kernel(DeviceRuns<Op::kViews> runs, Op op) {
  const std::int64_t total = runs.row_length / kWidth * runs.num_rows;
  const std::int64_t first =
      static_cast<std::int64_t>(blockIdx.x) * (kRunThreads * Op::kPieces) + threadIdx.x;
  if (first + (Op::kPieces - 1) * kRunThreads < total) {
    Offsets<Op::kViews> at[Op::kPieces];
    typename Op::template Loaded<kWidth> loaded[Op::kPieces];
#pragma unroll
    for (int i = 0; i < Op::kPieces; ++i) {
      at[i] = offsets_of<kWidth>(runs, first + i * kRunThreads);
      loaded[i] = op.template load<kWidth>(at[i]);
    }
#pragma unroll
    for (int i = 0; i < Op::kPieces; ++i) op.template store<kWidth>(at[i], loaded[i]);
    return;
  }
  for (std::int64_t index = first; index < total; index += kRunThreads) {  // the last block
    const Offsets<Op::kViews> at = offsets_of<kWidth>(runs, index);
    op.template store<kWidth>(at, op.template load<kWidth>(at));
  }
}

// REQUIRES: runs are divisible by kWidth.
template <int kWidth, class Op>
void launch_runs(const OpContext& ctx, const DeviceRuns<Op::kViews>& runs, const Op& op) {
  const std::int64_t pieces = runs.row_length / kWidth * runs.num_rows;
  const auto blocks = static_cast<unsigned>(ceil_div(pieces, kRunThreads * Op::kPieces));
  launch(run_kernel<kWidth, Op>, dim3(blocks), dim3(kRunThreads), 0, native_stream(ctx), runs, op);
}

// Runs `op` over the views whose pointers it holds, kWidth elements at a time where they allow it.
template <int kWidth, class Op>
void run_over(const OpContext& ctx, const std::array<ConstView, Op::kViews>& views, const Op& op) {
  const DeviceRuns<Op::kViews> runs(views);
  if (runs.divisible(kWidth, views)) {
    launch_runs<kWidth>(ctx, runs, op);
  } else {
    launch_runs<1>(ctx, runs, op);
  }
}

template <int kWidth, class T>
__device__ __forceinline__ Vector<T, kWidth> load_piece(const T* pointer) {
  return *reinterpret_cast<const Vector<T, kWidth>*>(pointer);
}
template <int kWidth, class T>
__device__ __forceinline__ void store_piece(T* pointer, const Vector<T, kWidth>& value) {
  *reinterpret_cast<Vector<T, kWidth>*>(pointer) = value;
}

}  // namespace terroir::cuda
