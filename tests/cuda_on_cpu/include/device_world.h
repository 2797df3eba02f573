// What kernels/cuda/nvcc/device_world.h offers, on the CPU.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#define DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(::cuda_on_cpu::dynamic_shared())

namespace terroir::cuda {

namespace emulated {
inline float bf16(unsigned packed, int half) {
  return __bfloat162float({static_cast<std::uint16_t>(half == 0 ? packed : packed >> 16)});
}
}  // namespace emulated

// As one access, so that UBSan sees an address that is not aligned.
inline void store_16_bytes(void* global, const unsigned (&words)[4]) {
  *static_cast<uint4*>(global) = uint4{words[0], words[1], words[2], words[3]};
}

// Fragments as in the PTX ISA, "mma.m16n8k16 with floating point type". Lane l, g = l / 4, t = l % 4:
//   a[0..3]: rows g, g + 8, g, g + 8; columns 2t, 2t + 1 (a[0], a[1]) and 2t + 8, 2t + 9 (a[2], a[3])
//   b[0..1]: column g; rows 2t, 2t + 1 and 2t + 8, 2t + 9
//   d[0..3]: rows g, g, g + 8, g + 8; columns 2t, 2t + 1, 2t, 2t + 1
TERROIR_UNSEEN inline void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                             std::source_location where = std::source_location::current()) {
  struct Fragments {
    unsigned a[4], b[2];
  } mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  const auto& all = ::cuda_on_cpu::warp_exchange(0xFFFFFFFFU, &mine, sizeof(mine), where);
  const auto of_lane = [&](int lane) {
    Fragments fragments;
    __builtin_memcpy(&fragments, all.bytes[lane], sizeof(fragments));
    return fragments;
  };
  const int lane = ::cuda_on_cpu::lane(), group = lane / 4, pair = lane % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = group + (i < 2 ? 0 : 8), column = 2 * pair + i % 2;
    float sum = d[i];
    for (int k = 0; k < 16; ++k) {
      const int owner = k % 8 / 2, high = k / 8;
      const Fragments left = of_lane(row % 8 * 4 + owner), right = of_lane(column * 4 + owner);
      sum += emulated::bf16(left.a[2 * high + row / 8], k % 2) * emulated::bf16(right.b[high], k % 2);
    }
    d[i] = sum;
  }
}

namespace emulated {
// Lane l receives of each of four 8x8 matrices the elements (row, column) and the next that `at` gives.
template <class At>
TERROIR_UNSEEN void ldmatrix(unsigned (&r)[4], const void* shared_row, std::source_location where, At at) {
  if (reinterpret_cast<std::uintptr_t>(shared_row) % 16 != 0) __builtin_trap();  // misaligned row
  const auto& all = ::cuda_on_cpu::warp_exchange(0xFFFFFFFFU, &shared_row, sizeof(shared_row), where);
  for (int matrix = 0; matrix < 4; ++matrix) {
    unsigned packed = 0;
    for (int half = 0; half < 2; ++half) {
      const auto [row, column] = at(::cuda_on_cpu::lane(), half);
      const std::uint16_t* from;
      __builtin_memcpy(&from, all.bytes[matrix * 8 + row], sizeof(from));
      packed |= static_cast<unsigned>(from[column]) << (16 * half);
    }
    r[matrix] = packed;
  }
}
struct Element {
  int row, column;
};
}  // namespace emulated

inline void ldmatrix_x4(unsigned (&r)[4], const void* shared_row,
                        std::source_location where = std::source_location::current()) {
  emulated::ldmatrix(r, shared_row, where, [](int lane, int half) {
    return emulated::Element{lane / 4, 2 * (lane % 4) + half};
  });
}
inline void ldmatrix_x4_trans(unsigned (&r)[4], const void* shared_row,
                              std::source_location where = std::source_location::current()) {
  emulated::ldmatrix(r, shared_row, where, [](int lane, int half) {
    return emulated::Element{2 * (lane % 4) + half, lane / 4};
  });
}

inline void cp_async_16(void* shared, const void* global, bool valid = true) {
  ::cuda_on_cpu::async_copy(shared, global, 16, valid);
}
inline void cp_async_commit() { ::cuda_on_cpu::async_commit(); }
template <int kPending>
void cp_async_wait() {
  ::cuda_on_cpu::async_wait(kPending);
}

}  // namespace terroir::cuda
