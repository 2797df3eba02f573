// What kernels/cuda/nvcc/device_world.h offers, on the CPU.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#define DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(::cuda_on_cpu::dynamic_shared())

namespace terroir::cuda {

// As one access, so that UndefinedBehaviorSanitizer sees an address that is not aligned.
inline void store_16_bytes(void* global, const unsigned (&words)[4]) {
  *static_cast<uint4*>(global) = uint4{words[0], words[1], words[2], words[3]};
}

// Fragments as in the PTX ISA, "mma.m16n8k16 with floating point type". Lane l, g = l / 4, t = l % 4:
//   a[0..3]: rows g, g + 8, g, g + 8; columns 2t, 2t + 1 (a[0], a[1]) and 2t + 8, 2t + 9 (a[2], a[3])
//   b[0..1]: column g; rows 2t, 2t + 1 and 2t + 8, 2t + 9
//   d[0..3]: rows g, g, g + 8, g + 8; columns 2t, 2t + 1, 2t, 2t + 1
inline void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                              Where where = Where::current()) {
  ::cuda_on_cpu::warp_mma_m16n8k16_bf16(d, a, b, where);
}

namespace emulated {
// Each lane reads the row it names when it arrives: what another lane wrote must be visible to it by then.
struct alignas(16) Row {
  std::uint16_t elements[8];
};
struct Rows {
  Row of_lane[32];
  unsigned pair(int matrix, int row0, int column0, int row1, int column1) const {
    return of_lane[8 * matrix + row0].elements[column0] |
           static_cast<unsigned>(of_lane[8 * matrix + row1].elements[column1]) << 16;
  }
};
inline Rows gather_rows(const void* shared_row, const Where& where) {
  ::cuda_on_cpu::check_ldmatrix_row(shared_row, where);
  const Row mine = *static_cast<const Row*>(shared_row);
  Rows rows;
  ::cuda_on_cpu::warp_gather(0xFFFFFFFFU, &mine, &rows, sizeof(Row), where);
  return rows;
}
}  // namespace emulated

inline void ldmatrix_x4(unsigned (&r)[4], const void* shared_row, Where where = Where::current()) {
  const emulated::Rows rows = emulated::gather_rows(shared_row, where);
  const int row = ::cuda_on_cpu::lane() / 4, column = 2 * (::cuda_on_cpu::lane() % 4);
  for (int matrix = 0; matrix < 4; ++matrix) r[matrix] = rows.pair(matrix, row, column, row, column + 1);
}
inline void ldmatrix_x4_trans(unsigned (&r)[4], const void* shared_row, Where where = Where::current()) {
  const emulated::Rows rows = emulated::gather_rows(shared_row, where);
  const int row = ::cuda_on_cpu::lane() / 4, column = 2 * (::cuda_on_cpu::lane() % 4);
  for (int matrix = 0; matrix < 4; ++matrix) r[matrix] = rows.pair(matrix, column, row, column + 1, row);
}

inline float exp2_approximate(float x) { return x < -126 ? 0.0F : std::exp2(x); }

inline void cp_async_16(void* shared, const void* global, bool valid = true, Where where = Where::current()) {
  ::cuda_on_cpu::async_copy(shared, global, valid, where);
}
inline void cp_async_commit() { ::cuda_on_cpu::async_commit(); }
template <int kPending>
void cp_async_wait() {
  ::cuda_on_cpu::async_wait(kPending);
}

}  // namespace terroir::cuda
