#include "kernels/embedding/embedding.h"

#include <algorithm>

#include "kernels/cuda/device.cuh"

namespace terroir::cuda {
namespace {

constexpr int kMaxThreads = 256;
constexpr int kTokensPerThread = 4;  // loads on their way

// A look-up of rows made of `units` of some size.
template <class Unit>
struct Lookup {
  const std::int32_t* ids;
  std::int64_t num_tokens;
  std::int64_t vocab_begin, vocab_size;
  const Unit* table;
  std::int64_t table_stride;
  Unit* out;
  std::int64_t out_stride;
  std::int64_t units;
};

// grid: groups of kTokensPerThread tokens, pieces of a row.
template <class Unit>
__global__ void __launch_bounds__(kMaxThreads) lookup_kernel(const Lookup<Unit> lookup) {
  const std::int64_t first = std::int64_t{blockIdx.x} * kTokensPerThread;
  const std::int64_t unit = std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  if (unit >= lookup.units) return;
  std::int64_t rows[kTokensPerThread];
#pragma unroll
  for (int i = 0; i < kTokensPerThread; ++i)
    rows[i] = first + i < lookup.num_tokens ? lookup.ids[first + i] - lookup.vocab_begin : -1;
  Unit values[kTokensPerThread] = {};
#pragma unroll
  for (int i = 0; i < kTokensPerThread; ++i)
    if (rows[i] >= 0 && rows[i] < lookup.vocab_size)
      values[i] = lookup.table[rows[i] * lookup.table_stride + unit];
#pragma unroll
  for (int i = 0; i < kTokensPerThread; ++i)
    if (first + i < lookup.num_tokens) lookup.out[(first + i) * lookup.out_stride + unit] = values[i];
}

// Unit: kElements elements of the table.
template <class Unit>
void launch_lookup(OpContext& ctx, const EmbeddingForwardArgs& args, std::int64_t elements) {
  const Lookup<Unit> lookup = {static_cast<const std::int32_t*>(args.ids.raw()),
                               args.ids.size(0),
                               args.vocab_begin,
                               args.table.size(0),
                               static_cast<const Unit*>(args.table.raw()),
                               args.table.stride(0) / elements,
                               static_cast<Unit*>(args.out.raw()),
                               args.out.stride(0) / elements,
                               args.table.size(1) / elements};
  const std::int64_t threads =
      std::clamp<std::int64_t>(ceil_div(lookup.units, kWarpSize) * kWarpSize, kWarpSize, kMaxThreads);
  const dim3 grid(static_cast<unsigned>(ceil_div(lookup.num_tokens, kTokensPerThread)),
                  static_cast<unsigned>(ceil_div(lookup.units, threads)));
  launch(lookup_kernel<Unit>, grid, dim3(static_cast<unsigned>(threads)), 0, native_stream(ctx), lookup);
}

}  // namespace

void embedding_forward(OpContext& ctx, const EmbeddingForwardArgs& args) {
  const std::int64_t bytes = dtype_bytes(args.table.dtype()), elements = 16 / bytes;
  using Unit = Vector<std::uint32_t, 4>;
  const auto rows_of_units = [&](const ConstView& view) {
    return reinterpret_cast<std::uintptr_t>(view.raw()) % 16 == 0 && view.stride(0) % elements == 0;
  };
  if (args.table.size(1) % elements == 0 && rows_of_units(args.table) && rows_of_units(args.out))
    return launch_lookup<Unit>(ctx, args, elements);
  if (bytes == 4) return launch_lookup<std::uint32_t>(ctx, args, 1);
  launch_lookup<std::uint16_t>(ctx, args, 1);
}

}  // namespace terroir::cuda
