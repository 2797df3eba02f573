#include "kernels/embedding/embedding.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/embedding/embedding_cpu.cc"
#include <hwy/foreach_target.h>

#include "base/parallel_for.h"
#include "kernels/tensor/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

// dtable[id] += dout[t] for all tokens, columns [begin, end) only. T: of dout.
template <class T>
HWY_INLINE void scatter_add(const EmbeddingBackwardArgs& args, std::int64_t begin, std::int64_t end) {
  const std::int32_t* ids = args.ids.data<std::int32_t>();
  const T* dout = args.dout.data<T>() + begin;
  float* dtable = args.dtable.data<float>() + begin;
  for (std::int64_t t = 0; t < args.ids.size(0); ++t) {
    const std::int64_t row = ids[t] - args.vocab_begin;
    if (row < 0 || row >= args.dtable.size(0)) continue;
    const T* from = dout + t * args.dout.stride(0);
    float* to = dtable + row * args.dtable.stride(0);
    for_each_vector(end - begin,
                    [=](auto at) HWY_ATTR { store(at, hn::Add(load(at, to), load(at, from)), to); });
  }
}

void scatter_add_f32(const EmbeddingBackwardArgs& args, std::int64_t begin, std::int64_t end) {
  scatter_add<float>(args, begin, end);
}
void scatter_add_bf16(const EmbeddingBackwardArgs& args, std::int64_t begin, std::int64_t end) {
  scatter_add<BFloat16>(args, begin, end);
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {

HWY_EXPORT(scatter_add_f32);
HWY_EXPORT(scatter_add_bf16);

constexpr std::int64_t kTokenGrain = 16;
constexpr std::int64_t kColumnGrain = 64;  // four cache lines: threads rarely write to the same one

}  // namespace

namespace cpu {

void embedding_forward(OpContext& ctx, const EmbeddingForwardArgs& args) {
  const std::int32_t* ids = args.ids.data<std::int32_t>();
  const auto* table = static_cast<const std::uint8_t*>(args.table.raw());
  auto* out = static_cast<std::uint8_t*>(args.out.raw());
  const std::int64_t element_bytes = dtype_bytes(args.table.dtype());
  const auto row_bytes = static_cast<std::size_t>(args.table.size(1) * element_bytes);
  parallel_for(ctx.num_threads, args.ids.size(0), kTokenGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t row = ids[t] - args.vocab_begin;
      std::uint8_t* to = out + t * args.out.stride(0) * element_bytes;
      if (row >= 0 && row < args.table.size(0)) {
        std::memcpy(to, table + row * args.table.stride(0) * element_bytes, row_bytes);
      } else {
        std::memset(to, 0, row_bytes);
      }
    }
  });
}

// Each thread takes columns, not tokens.
void embedding_backward(OpContext& ctx, const EmbeddingBackwardArgs& args) {
  const auto scatter_add = args.dout.dtype() == DType::kF32 ? HWY_DYNAMIC_DISPATCH(scatter_add_f32)
                                                            : HWY_DYNAMIC_DISPATCH(scatter_add_bf16);
  parallel_for(ctx.num_threads, args.dtable.size(1), kColumnGrain,
               [&](std::int64_t begin, std::int64_t end) { scatter_add(args, begin, end); });
}

}  // namespace cpu
}  // namespace terroir
#endif
