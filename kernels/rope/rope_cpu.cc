#include "kernels/rope/rope.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rope/rope_cpu.cc"
#include <hwy/foreach_target.h>

#include "base/parallel_for.h"
#include "kernels/rope/rotate-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

template <bool kInverse, class T>
HWY_INLINE void rotate_head(const float* cos_row, const float* sin_row, std::int64_t half, T* x) {
  T* y = x + half;
  for_each_vector(half, [=](auto at) HWY_ATTR {
    auto first = load(at, x), second = load(at, y);
    rotate<kInverse>(load(at, cos_row), load(at, sin_row), first, second);
    store(at, first, x);
    store(at, second, y);
  });
}

template <class T>
HWY_INLINE void rotate_tokens_of(const RopeArgs& args, std::int64_t begin, std::int64_t end) {
  const std::int64_t half = args.x.size(2) / 2;
  const std::int32_t* positions = args.positions.data<std::int32_t>();
  for (std::int64_t t = begin; t < end; ++t) {
    const float* row = args.table.data<float>() + positions[t] * args.table.stride(0);
    T* x = args.x.data<T>() + t * args.x.stride(0);
    for (std::int64_t head = 0; head < args.x.size(1); ++head, x += args.x.stride(1)) {
      if (args.inverse) {
        rotate_head<true>(row, row + half, half, x);
      } else {
        rotate_head<false>(row, row + half, half, x);
      }
    }
  }
}

void rotate_tokens(const RopeArgs& args, std::int64_t begin, std::int64_t end) {
  if (args.x.dtype() == DType::kBF16) return rotate_tokens_of<BFloat16>(args, begin, end);
  rotate_tokens_of<float>(args, begin, end);
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {

HWY_EXPORT(rotate_tokens);

constexpr std::int64_t kElementGrain = 1 << 13;

}  // namespace

namespace cpu {

void rope_apply(OpContext& ctx, const RopeArgs& args) {
  const std::int32_t* positions = args.positions.data<std::int32_t>();
  for (std::int64_t t = 0; t < args.x.size(0); ++t)
    TERROIR_CHECK(positions[t] >= 0 && positions[t] < args.table.size(0),
                  "rope_apply: position {} of token {} is outside the table of {}", positions[t], t,
                  args.table.size(0));
  const auto rotate = HWY_DYNAMIC_DISPATCH(rotate_tokens);
  const std::int64_t token_elements = args.x.size(1) * args.x.size(2);
  parallel_for(ctx.num_threads, args.x.size(0), kElementGrain / std::max<std::int64_t>(token_elements, 1),
               [&](std::int64_t begin, std::int64_t end) { rotate(args, begin, end); });
}

}  // namespace cpu
}  // namespace terroir
#endif
