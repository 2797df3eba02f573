// How a product is cut into pieces that fit the caches, and the memory the pieces are packed into. After Goto
// and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008.
//
//   block   up to kBlockRows x kBlockColumns of c.
//   slab    as much of k as the packed rows of op(a) and columns of op(b) of a block leave room for. All
//   threads
//           pack it, converted to f32, and then share out the block's tiles.
//   step    up to kStepDepth of k: what a tile sums up in registers before it adds it to c.
//   group   as many rows of a block as stay in a core's second-level cache while it goes over the columns.
//   panel   the rows of op(a), or columns of op(b), of one register tile and step: packed so that the tile's
//           loop reads it from front to back; it stays in the first-level cache.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <memory>
#include <new>

#include "kernels/tensor/view.h"

namespace terroir::gemm {

// A step is the same on every instruction set, tiles add in the order of k, and steps follow each other in
// that order: so the bits of c depend neither on the number of threads nor on where in c an element lies.
constexpr std::int64_t kBlockRows = 2048, kBlockColumns = 2048, kStepDepth = 192;
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

// Packed operands and the sums of a bf16 block, at most 24 MiB for a context whatever the sizes and the
// number of threads; of that the 18 MiB of sums are touched, and so take memory, only by products with a bf16
// c.
class Scratch {
 public:
  static constexpr const char* kName = "matmul";
  static constexpr std::int64_t kRows = kBlockRows + kMaxPanelWidth;
  static constexpr std::int64_t kColumns = kBlockColumns + kMaxPanelWidth;
  static constexpr std::int64_t kPackedA = kRows * 2 * kStepDepth, kPackedB = kColumns * 2 * kStepDepth;
  static constexpr std::int64_t kSums = kRows * kColumns;

  float* a() const { return memory_.get(); }         // [kPackedA]
  float* b() const { return a() + kPackedA; }        // [kPackedB]
  float* bias() const { return b() + kPackedB; }     // [kColumns]
  float* sums() const { return bias() + kColumns; }  // [kRows, kColumns]

 private:
  // Huge pages, where the system gives them on request: packed memory is read too fast for small ones.
  static constexpr std::align_val_t kAlignment{2 << 20};
  struct Free {
    void operator()(float* memory) const { ::operator delete(memory, kAlignment); }
  };
  static float* allocate() {
    constexpr std::size_t kBytes = (kPackedA + kPackedB + kColumns + kSums) * sizeof(float);
    void* memory = ::operator new(kBytes, kAlignment);
    ::madvise(memory, kBytes, MADV_HUGEPAGE);  // no harm if it fails
    return static_cast<float*>(memory);
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
