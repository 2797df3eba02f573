#include "kernels/embedding/embedding.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/embedding/embedding_cpu.cc"
#include <hwy/foreach_target.h>

#include "base/parallel_for.h"
#include "kernels/tensor/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

// dtable[id] += dout[t] for all tokens, columns [begin, end) only.
void scatter_add_columns(const EmbeddingBackwardArgs& args, std::int64_t begin, std::int64_t end) {
  const std::int32_t* ids = args.ids.data<std::int32_t>();
  const float* dout = args.dout.data<float>() + begin;
  float* dtable = args.dtable.data<float>() + begin;
  for (std::int64_t t = 0; t < args.ids.size(0); ++t) {
    const std::int64_t row = ids[t] - args.vocab_begin;
    if (row < 0 || row >= args.dtable.size(0)) continue;
    const float* from = dout + t * args.dout.stride(0);
    float* to = dtable + row * args.dtable.stride(0);
    for_each_vector(end - begin,
                    [=](auto at) HWY_ATTR { store(at, hn::Add(load(at, to), load(at, from)), to); });
  }
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {

HWY_EXPORT(scatter_add_columns);

constexpr std::int64_t kTokenGrain = 16;
constexpr std::int64_t kColumnGrain = 64;  // four cache lines: threads rarely write to the same one

}  // namespace

namespace cpu {

void embedding_forward(OpContext& ctx, const EmbeddingForwardArgs& args) {
  const std::int32_t* ids = args.ids.data<std::int32_t>();
  const float* table = args.table.data<float>();
  float* out = args.out.data<float>();
  const auto row_bytes = static_cast<std::size_t>(args.table.size(1)) * sizeof(float);
  parallel_for(ctx.num_threads, args.ids.size(0), kTokenGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t row = ids[t] - args.vocab_begin;
      float* to = out + t * args.out.stride(0);
      if (row >= 0 && row < args.table.size(0)) {
        std::memcpy(to, table + row * args.table.stride(0), row_bytes);
      } else {
        std::memset(to, 0, row_bytes);
      }
    }
  });
}

void embedding_backward(OpContext& ctx, const EmbeddingBackwardArgs& args) {
  const auto scatter_add = HWY_DYNAMIC_DISPATCH(scatter_add_columns);
  parallel_for(ctx.num_threads, args.dtable.size(1), kColumnGrain,
               [&](std::int64_t begin, std::int64_t end) { scatter_add(args, begin, end); });
}

}  // namespace cpu
}  // namespace terroir
#endif
