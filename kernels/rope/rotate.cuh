// The rotation of one plane, as CUDA kernels do it.
#pragma once

#include "kernels/cuda/device.cuh"

namespace terroir::cuda {

// (first, second) turned by the angle of this cosine and sine; back if `inverse`.
__device__ __forceinline__ void rotate(float& first, float& second, float cosine, float sine, bool inverse) {
  const float s = inverse ? -sine : sine, x = first;
  first = x * cosine - second * s;
  second = second * cosine + x * s;
}

// kCount floats of a table's row, read once for all heads of a token.
template <int kCount>
__device__ __forceinline__ void load_angles(const float* row, float (&values)[kCount]) {
  if constexpr (kCount % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const Vector<float, 4> four = load_vector(row + i);
#pragma unroll
      for (int e = 0; e < 4; ++e) values[i + e] = four.v[e];
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = row[i];
  }
}

}  // namespace terroir::cuda
