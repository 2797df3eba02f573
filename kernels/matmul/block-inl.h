// One block of c, or a region of several: packing, and the loops around the register tile. Included like
// simd-inl.h.
#if defined(TERROIR_KERNELS_MATMUL_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TERROIR_KERNELS_MATMUL_BLOCK_INL_H_
#undef TERROIR_KERNELS_MATMUL_BLOCK_INL_H_
#else
#define TERROIR_KERNELS_MATMUL_BLOCK_INL_H_
#endif

#include <algorithm>
#include <tuple>

#include "base/parallel_for.h"
#include "kernels/matmul/blocks.h"
#include "kernels/matmul/pack-inl.h"
#include "kernels/matmul/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {
namespace {

using gemm::Block;
using gemm::BlockMemory;
using gemm::Destination;
using gemm::divide_up;
using gemm::Problem;

// What is packed and then multiplied: [first, end) of k, in steps of `step`, for one block of c.
struct Slab {
  const Problem& problem;
  const BlockMemory& memory;
  Block block;
  std::int64_t first, end, step;
  std::int64_t group_rows;
  bool pack_a, pack_b;
  const float* bias;  // the block's, or null

  std::int64_t row_panels() const { return divide_up(block.rows, kTileRows); }
  std::int64_t column_panels() const { return divide_up(block.columns, kTileColumns); }
};

// f32 values of bias [column, column + columns): where they are, or converted into `buffer`; null without
// bias.
const float* bias_values(const ConstView& bias, std::int64_t column, std::int64_t columns, float* buffer) {
  if (!bias) return nullptr;
  if (bias.dtype() == DType::kF32) return bias.data<float>() + column;
  const BFloat16* from = bias.data<BFloat16>() + column;
  for_each_vector(columns, [&](auto at) HWY_ATTR { store(at, load(at, from), buffer); });
  return buffer;
}

// Where sums that are complete, with what accumulate and bias add, go. `bias` are the block's.
Destination whole_destination(const Problem& p, std::int64_t row, std::int64_t column, const float* bias) {
  char* c = static_cast<char*>(p.c.raw()) + p.c_offset(row, column) * dtype_bytes(p.c.dtype());
  return {c, p.c.dtype(), p.c.stride(0), p.accumulate ? c : nullptr, p.c.dtype(), p.c.stride(0), bias};
}

// Of several steps, the first adds what accumulate and bias add; until the last one sums stay in f32: in c
// itself, or in scratch if c is bf16.
Destination step_destination(const Slab& slab, bool first, bool last) {
  const Problem& p = slab.problem;
  Destination out = whole_destination(p, slab.block.row, slab.block.column, first ? slab.bias : nullptr);
  const bool in_scratch = p.c.dtype() != DType::kF32;
  void* sums = in_scratch ? slab.memory.sums : out.to;
  const std::int64_t stride = in_scratch ? slab.memory.sums_stride : out.to_stride;
  if (!first) {
    out.add = sums;
    out.add_dtype = DType::kF32;
    out.add_stride = stride;
  }
  if (!last) {
    out.to = sums;
    out.to_dtype = DType::kF32;
    out.to_stride = stride;
  }
  return out;
}

// Small operands whose lines are neighbours already are multiplied where they lie.
bool needs_packing(const gemm::Operand& operand, std::int64_t lines, std::int64_t depth, int multiple) {
  constexpr std::int64_t kSmall = 1 << 15;  // elements, gaps included: an eighth of a second-level cache
  return depth == 0 || operand.dtype != DType::kF32 || operand.depth_contiguous || lines % multiple != 0 ||
         operand.stride * depth > kSmall;
}

// Packed steps follow each other, each [panels, depth, kWidth].
template <int kWidth>
std::int64_t packed_offset(std::int64_t panels, std::int64_t depth) {
  return panels * kWidth * depth;
}

// Panels [begin, end) of one operand, over all steps.
template <int kWidth>
void pack_share(const Slab& slab, const gemm::Operand& operand, std::int64_t line, std::int64_t lines,
                std::int64_t begin, std::int64_t end, float* to) {
  const std::int64_t skipped = begin * kWidth, count = std::min(lines, end * kWidth) - skipped;
  for (std::int64_t first = slab.first; first < slab.end; first += slab.step) {
    const std::int64_t depth = std::min(slab.step, slab.end - first);
    pack<kWidth>(operand, line + skipped, count, first, depth,
                 to + packed_offset<kWidth>(divide_up(lines, kWidth), first - slab.first) + skipped * depth);
  }
}

// Calls share(begin, end) for ranges of `units`, one of each of `workers` threads. Always for all of them,
// even if a range is empty: libgomp ends threads that a smaller team leaves over, and has to start them
// again.
template <class Share>
void share_out(std::int64_t workers, std::int64_t units, const Share& share) {
  parallel_for(static_cast<int>(workers), workers, 1, [&](std::int64_t begin, std::int64_t end) {
    for (; begin < end; ++begin) share(units * begin / workers, units * (begin + 1) / workers);
  });
}

// Each thread packs its share of both operands.
void pack_operands(const Slab& slab, std::int64_t workers) {
  if (!slab.pack_a && !slab.pack_b) return;
  const auto& [p, block] = std::tie(slab.problem, slab.block);
  const std::int64_t rows = slab.pack_a ? slab.row_panels() : 0;
  const std::int64_t columns = slab.pack_b ? slab.column_panels() : 0;
  share_out(workers, workers, [&](std::int64_t worker, std::int64_t) {
    pack_share<kTileRows>(slab, p.a, block.row, block.rows, rows * worker / workers,
                          rows * (worker + 1) / workers, slab.memory.a);
    pack_share<kTileColumns>(slab, p.b, block.column, block.columns, columns * worker / workers,
                             columns * (worker + 1) / workers, slab.memory.b);
  });
}

// One operand's panels in the step [first, first + depth) of k.
template <int kWidth>
Factor factor(const Slab& slab, const gemm::Operand& operand, bool packed, std::int64_t line,
              std::int64_t panels, std::int64_t first, std::int64_t depth, const float* memory) {
  if (packed) return {memory + packed_offset<kWidth>(panels, first - slab.first), kWidth * depth, kWidth};
  return {static_cast<const float*>(operand.data) + first * operand.stride + line, kWidth, operand.stride};
}

// Panels of columns [begin, end) over one group of rows, step after step.
void multiply_group(const Slab& slab, std::int64_t group, std::int64_t begin, std::int64_t end) {
  const auto& [p, block] = std::tie(slab.problem, slab.block);
  const std::int64_t row = group * slab.group_rows, end_row = std::min(row + slab.group_rows, block.rows);
  for (std::int64_t first = slab.first; first < slab.end || first == 0; first += slab.step) {
    const std::int64_t depth = std::min(slab.step, slab.end - first);
    const Factor a =
        factor<kTileRows>(slab, p.a, slab.pack_a, block.row, slab.row_panels(), first, depth, slab.memory.a);
    const Factor b = factor<kTileColumns>(slab, p.b, slab.pack_b, block.column, slab.column_panels(), first,
                                          depth, slab.memory.b);
    const Destination out = step_destination(slab, first == 0, first + depth == p.k);
    for (std::int64_t panel = begin; panel < end; ++panel) {
      const std::int64_t columns = std::min<std::int64_t>(kTileColumns, block.columns - panel * kTileColumns);
      multiply_panels(depth, a, b, panel, columns, out, row, end_row);
    }
  }
}

// The units of work are the pairs (group, panel of columns), groups outermost: a thread's range of them spans
// as few groups as possible, and threads share out rows and columns alike.
void multiply_units(const Slab& slab, std::int64_t begin, std::int64_t end) {
  const std::int64_t panels = slab.column_panels();
  while (begin < end) {
    const std::int64_t group = begin / panels, next = std::min(end, (group + 1) * panels);
    multiply_group(slab, group, begin - group * panels, next - group * panels);
    begin = next;
  }
}

// Rows of a group: what the cache holds, less where there would be too few units for the threads.
std::int64_t group_rows(const Block& block, std::int64_t workers) {
  constexpr std::int64_t kUnitsPerWorker = 8;
  const std::int64_t panels = divide_up(block.columns, kTileColumns);
  const std::int64_t groups = divide_up(kUnitsPerWorker * workers, panels);
  const std::int64_t limit = workers == 1 ? kGroupRows : std::min(kGroupRows, divide_up(block.rows, groups));
  return gemm::even_pieces(block.rows, std::max<std::int64_t>(limit, kTileRows), kTileRows);
}

// Steps of the block's operands that are packed at once: one, which is multiplied while it is in the caches;
// as many as there is room for where threads have to wait for each other before and after.
std::int64_t steps_in_slab(const Slab& slab, std::int64_t workers) {
  if (workers == 1) return 1;
  const std::int64_t lines = std::max(slab.row_panels() * kTileRows, slab.column_panels() * kTileColumns);
  return slab.memory.packed_floats / lines / slab.step;
}

void multiply_block(const Problem& p, const Block& block, const BlockMemory& memory, std::int64_t workers) {
  Slab slab = {.problem = p, .memory = memory, .block = block};
  slab.step = gemm::even_pieces(p.k, gemm::kStepDepth, 4);
  slab.group_rows = group_rows(block, workers);
  slab.pack_a = needs_packing(p.a, block.rows, p.k, kTileRows);
  slab.pack_b = needs_packing(p.b, block.columns, p.k, static_cast<int>(hn::MaxLanes(FloatTag())));
  slab.bias = bias_values(p.bias, block.column, block.columns, memory.bias);
  const std::int64_t depth = slab.step * steps_in_slab(slab, workers);
  const std::int64_t units = divide_up(block.rows, slab.group_rows) * slab.column_panels();
  do {  // once for k = 0: c becomes what accumulate and bias add to nothing
    slab.end = std::min(slab.first + depth, p.k);
    pack_operands(slab, workers);
    share_out(workers, units,
              [&](std::int64_t begin, std::int64_t end) { multiply_units(slab, begin, end); });
    slab.first = slab.end;
  } while (slab.first < p.k);
}

void multiply_region(const Problem& p, const Block& region, const BlockMemory& memory, std::int64_t workers) {
  const std::int64_t lines = p.c.dtype() == DType::kF32 ? memory.block_lines : memory.sums_lines;
  const std::int64_t rows = gemm::even_pieces(region.rows, lines, kTileRows);
  const std::int64_t columns = gemm::even_pieces(region.columns, lines, kTileColumns);
  for (std::int64_t column = 0; column < region.columns; column += columns)
    for (std::int64_t row = 0; row < region.rows; row += rows)
      multiply_block(p,
                     {region.row + row, std::min(rows, region.rows - row), region.column + column,
                      std::min(columns, region.columns - column)},
                     memory, workers);
}

}  // namespace
}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
