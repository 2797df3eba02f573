// Rows in registers, 16 bytes at a time.
#pragma once

#include "kernels/cuda/device.cuh"

namespace terroir::cuda {

// 16 bytes of a row as loaded: 4 floats or 8 bf16. Kept as words, which hold two bf16 in one register until
// they are used; an array of bf16 takes a register for each.
template <class T>
struct Piece {
  static constexpr int kElements = kVectorElements<T>;
  Vector<std::uint32_t, 4> words;

  __device__ __forceinline__ static Piece load(const T* pointer) {
    return {*reinterpret_cast<const Vector<std::uint32_t, 4>*>(pointer)};
  }
  __device__ __forceinline__ void store(T* pointer) const {
    store_16_bytes(pointer, words.v);
  }
  __device__ __forceinline__ float operator[](int element) const {
    if constexpr (sizeof(T) == 4) {
      return __uint_as_float(words.v[element]);
    } else {
      const std::uint32_t word = words.v[element / 2];
      return __uint_as_float(element % 2 == 0 ? word << 16 : word & 0xFFFF0000U);
    }
  }
};

// Rounds and stores a piece.
template <class T, int kElements>
__device__ __forceinline__ void store_rounded(T* pointer, const float (&values)[kElements]) {
  static_assert(kElements == kVectorElements<T>);
  Vector<T, kElements> rounded;
#pragma unroll
  for (int e = 0; e < kElements; ++e) rounded.v[e] = from_float<T>(values[e]);
  store_vector(pointer, rounded);
}

}  // namespace terroir::cuda
