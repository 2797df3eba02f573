// What device code needs that a host compiler cannot express: dynamic shared memory and the instructions
// around tensor cores. This is the GPU's version; tests put another file of the same name first in their
// include path, so that the same kernels run on a CPU.
#pragma once

#include <cuda_runtime.h>

// Declares `T* name`: the block's dynamic shared memory, of the size given to launch(), 16-byte aligned.
#define DYNAMIC_SHARED(T, name)                                       \
  extern __shared__ __align__(16) unsigned char dynamic_shared_raw[]; \
  T* name = reinterpret_cast<T*>(dynamic_shared_raw)

namespace terroir::cuda {

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// Stores 16 bytes to global memory, aligned, as one instruction. Left to the compiler, a struct's store may
// become one for each member: registers are not always seen as the 16 aligned bytes they were loaded as.
__device__ __forceinline__ void store_16_bytes(void* global, const unsigned (&words)[4]) {
  asm volatile("st.global.v4.b32 [%0], {%1,%2,%3,%4};\n" ::"l"(__cvta_generic_to_global(global)),
               "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
               : "memory");
}

// d += a b for a 16x16 by 16x8 tile: mma.sync.m16n8k16, a row-major, b column-major, bf16 with f32 sums. All
// 32 lanes of a warp call it; fragment layout: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating
// point type".
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4],
                                                  const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8x8 matrices of 16-bit elements from shared memory. Lane l passes the address of row l % 8 of matrix l
// / 8 (16 bytes, aligned) and receives of each matrix the elements at row l / 4, columns 2 (l % 4) and the
// next.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}
// The same of the transposed matrices.
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}

// 2^x within 2^-22, for softmax: one instruction. Results below 2^-126 are 0; NaN for NaN.
__device__ __forceinline__ float exp2_approximate(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(result) : "f"(x));
  return result;
}

// Starts a copy of 16 bytes (both sides aligned) from global to shared memory; zeros where !valid, and then
// `global` is not read. Visible to this thread after cp_async_wait, to others after a barrier that follows.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid = true) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)), "l"(global),
               "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Waits until at most kPending of this thread's committed groups are still on their way.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

}  // namespace terroir::cuda
