#include "kernels/matmul/matmul.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul/matmul_cpu.cc"
#include <hwy/foreach_target.h>

#include <algorithm>

#include "kernels/matmul/block-inl.h"
#include "kernels/matmul/thin-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {
namespace {

// What takes some microseconds, as long as waking the threads does: smaller problems stay in one. Bytes of b,
// and multiplications.
constexpr std::int64_t kThreadedBytes = 1 << 17, kThreadedProducts = 1 << 19;

// Columns [begin, end) of a product with few rows; `a` is [m, k].
void multiply_thin_columns(const Problem& p, const float* a, std::int64_t begin, std::int64_t end) {
  ThinSums sums;
  float bias[kThinColumns];
  for (; begin < end; begin += kThinColumns) {
    const std::int64_t columns = std::min<std::int64_t>(kThinColumns, end - begin);
    if (p.b.dtype == DType::kBF16)
      sum_thin_rows<BFloat16>(p.m, a, p.k, p.b, begin, columns, sums);
    else
      sum_thin_rows<float>(p.m, a, p.k, p.b, begin, columns, sums);
    finish(sums[0], kThinColumns, p.m, columns,
           whole_destination(p, 0, begin, bias_values(p.bias, begin, columns, bias)), 0, 0);
  }
}

// a may be transposed or bf16: its few rows are copied to [m, k] floats first.
bool is_thin(const Problem& p) {
  return p.m <= kThinRows && p.k > 0 && p.m * p.k <= p.scratch.whole().packed_floats;
}

void multiply_thin(const Problem& p) {
  float* a = p.scratch.whole().a;
  for (std::int64_t row = 0; row < p.m; ++row) pack<1>(p.a, row, 1, 0, p.k, a + row * p.k);
  const std::int64_t bytes = p.n * p.k * dtype_bytes(p.b.dtype);
  const std::int64_t chunks = divide_up(p.n, kThinColumns);
  share_out(bytes < kThreadedBytes ? 1 : p.num_threads, chunks, [&](std::int64_t begin, std::int64_t end) {
    multiply_thin_columns(p, a, begin * kThinColumns, std::min(end * kThinColumns, p.n));
  });
}

// c cut into rows x columns regions.
struct Grid {
  std::int64_t rows, columns;
};

std::int64_t cut(std::int64_t lines, std::int64_t width, std::int64_t part, std::int64_t parts) {
  return std::min(divide_up(lines, width) * part / parts * width, lines);
}

// The grid whose largest region takes the least time: its multiplications, and packing its rows and columns.
Grid best_grid(const Problem& p) {
  constexpr std::int64_t kPackTime = 24;  // of an element, in multiplications (one thread, AVX-512)
  Grid best = {};
  std::int64_t least = INT64_MAX;
  for (std::int64_t rows = 1; rows <= p.num_threads; ++rows) {
    const std::int64_t columns = p.num_threads / rows;
    if (rows * columns != p.num_threads) continue;
    const std::int64_t height = divide_up(divide_up(p.m, kTileRows), rows) * kTileRows;
    const std::int64_t width = std::min(divide_up(divide_up(p.n, kTileColumns), columns) * kTileColumns, p.n);
    const std::int64_t time = height * width + kPackTime * (height + width);
    if (time >= least) continue;
    least = time;
    best = {rows, columns};
  }
  return best;
}

void multiply_regions(const Problem& p) {
  const Grid grid = best_grid(p);
  share_out(p.num_threads, p.num_threads, [&](std::int64_t i, std::int64_t) {
    const std::int64_t y = i / grid.columns, x = i % grid.columns;
    const std::int64_t row = cut(p.m, kTileRows, y, grid.rows);
    const std::int64_t column = cut(p.n, kTileColumns, x, grid.columns);
    multiply_region(p,
                    {row, cut(p.m, kTileRows, y + 1, grid.rows) - row, column,
                     cut(p.n, kTileColumns, x + 1, grid.columns) - column},
                    p.scratch.part(i), 1);
  });
}

}  // namespace

void multiply(const Problem& p) {
  const Block all = {0, p.m, 0, p.n};
  if (is_thin(p)) return multiply_thin(p);
  if (p.num_threads == 1 || p.m * p.n * p.k < kThreadedProducts)
    return multiply_region(p, all, p.scratch.part(0), 1);
  if (p.num_threads <= gemm::Scratch::kParts) return multiply_regions(p);
  multiply_region(p, all, p.scratch.whole(), p.num_threads);
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {

HWY_EXPORT(multiply);

gemm::Operand operand(const ConstView& view, bool depth_contiguous) {
  return {view.raw(), view.dtype(), view.stride(0), depth_contiguous};
}

}  // namespace

namespace cpu {

void matmul(OpContext& ctx, const MatmulArgs& args) {
  const auto& [a, b, c, options, bias] = args;
  const std::int64_t k = a.size(options.transpose_a ? 0 : 1);
  if (c.numel() == 0 || (k == 0 && options.accumulate && !bias)) return;
  const gemm::Problem problem = {.m = c.size(0),
                                 .n = c.size(1),
                                 .k = k,
                                 .a = operand(a, !options.transpose_a),
                                 .b = operand(b, options.transpose_b),
                                 .c = c,
                                 .bias = bias,
                                 .accumulate = options.accumulate,
                                 .num_threads = ctx.num_threads,
                                 .scratch = ctx.cache<gemm::Scratch>()};
  HWY_DYNAMIC_DISPATCH(multiply)(problem);
}

}  // namespace cpu
}  // namespace terroir
#endif
