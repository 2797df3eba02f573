// How a product is cut into pieces that fit the caches, and the memory the pieces are packed into. After Goto
// and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008.
//
//   region  what a thread multiplies on its own. Where there are more threads than kParts, all of c is one
//   region
//           and they share its blocks: packing each operand once is then worth meeting twice in a slab.
//   block   as many rows and columns of a region as memory is set aside for.
//   slab    as much of k as the block's rows of op(a) and columns of op(b) can be packed of, converted to
//   f32. step    up to kStepDepth of k: what a tile sums up in registers before it adds it to c. group   as
//   many rows of a block as stay in a core's second-level cache while it goes over the columns. panel   the
//   rows of op(a), or columns of op(b), of one register tile and step: packed so that the tile's
//           loop reads it from front to back; it stays in the first-level cache.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#include "kernels/tensor/view.h"

namespace terroir::gemm {

// A step is the same on every instruction set, tiles add in the order of k, and steps follow each other in
// that order: so the bits of c depend neither on the number of threads nor on where in c an element lies.
constexpr std::int64_t kStepDepth = 192;
constexpr std::int64_t kMaxPanelWidth = 64;

constexpr std::int64_t divide_up(std::int64_t x, std::int64_t by) { return (x + by - 1) / by; }

// The size of equal pieces of `total`, at most `limit` each and then rounded up to a multiple of `multiple`.
constexpr std::int64_t even_pieces(std::int64_t total, std::int64_t limit, std::int64_t multiple) {
  const std::int64_t count = divide_up(total, limit);
  return count == 0 ? multiple : divide_up(divide_up(total, count), multiple) * multiple;
}

// op(a) as [m, k] or op(b) as [n, k]: `line` l is row l of op(a), or column l of op(b).
struct Operand {
  const void* data;
  DType dtype;  // f32 or bf16
  std::int64_t stride;
  bool depth_contiguous;  // a line's elements are neighbours (otherwise the lines of one k are)
};

// What becomes of the sums of one step: to = sums + add + bias.
struct Destination {
  void* to;
  DType to_dtype;
  std::int64_t to_stride;
  const void* add;  // may be null, may be `to`
  DType add_dtype;
  std::int64_t add_stride;
  const float* bias;  // may be null
};

// A part of c, [rows, columns] at (row, column).
struct Block {
  std::int64_t row, rows, column, columns;
};

// What a block is multiplied in.
struct BlockMemory {
  std::int64_t block_lines;  // rows and columns of a block, at most
  float *a, *b;              // [packed_floats] each
  std::int64_t packed_floats;
  float* bias;              // [block_lines + kMaxPanelWidth]
  float* sums;              // [sums_stride, sums_stride]: a block of a bf16 c, before it is rounded
  std::int64_t sums_lines;  // rows and columns of such a block, at most
  std::int64_t sums_stride;
};

// 8 MiB for each of kParts threads that work on their own, or all of it for all threads together: 31 MiB of
// address space for a context, whatever the sizes and the number of threads. What is not written takes no
// memory: with f32 c, 3.2 MiB a thread are used.
class Scratch {
 public:
  static constexpr const char* kName = "matmul";
  static constexpr std::int64_t kParts = 4;

  BlockMemory part(std::int64_t i) const {
    return {kLines,
            a() + i * kPacked,
            b() + i * kPacked,
            kPacked,
            bias() + i * kBiasStride,
            sums() + i * kSumsStride * kSumsStride,
            kSumsLines,
            kSumsStride};
  }
  BlockMemory whole() const {
    return {kLines, a(), b(), kParts * kPacked, bias(), sums(), 2 * kSumsLines, 2 * kSumsStride};
  }

 private:
  static constexpr std::int64_t kLines = 2048, kBiasStride = kLines + kMaxPanelWidth;
  static constexpr std::int64_t kPacked = (kLines + kMaxPanelWidth) * kStepDepth;
  static constexpr std::int64_t kSumsLines = 1024, kSumsStride = kSumsLines + kMaxPanelWidth;

  float* a() const { return memory_.get(); }
  float* b() const { return a() + kParts * kPacked; }
  float* bias() const { return b() + kParts * kPacked; }
  float* sums() const { return bias() + kParts * kBiasStride; }

  static constexpr std::align_val_t kAlignment{4096};
  struct Free {
    void operator()(float* memory) const { ::operator delete(memory, kAlignment); }
  };
  static float* allocate() {
    constexpr std::size_t kFloats = kParts * (2 * kPacked + kBiasStride + kSumsStride * kSumsStride);
    return static_cast<float*>(::operator new(kFloats * sizeof(float), kAlignment));
  }
  std::unique_ptr<float, Free> memory_{allocate()};
};

// A product with everything its parts need.
struct Problem {
  std::int64_t m, n, k;
  Operand a, b;
  View c;
  ConstView bias;  // [n] or not given
  bool accumulate;
  int num_threads;
  Scratch& scratch;

  std::int64_t c_offset(std::int64_t row, std::int64_t column) const { return row * c.stride(0) + column; }
};

}  // namespace terroir::gemm
