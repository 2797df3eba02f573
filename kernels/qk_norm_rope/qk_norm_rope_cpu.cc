#include "kernels/qk_norm_rope/qk_norm_rope.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/qk_norm_rope/qk_norm_rope_cpu.cc"
#include <hwy/foreach_target.h>

#include <cmath>

#include "base/parallel_for.h"
#include "kernels/rms_norm/row_blocks.h"
#include "kernels/rope/rotate-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

// A head is normed and turned in two reads, the second from cache. Its halves are read side by side: element
// i of both is one plane.

template <class T>
struct ForwardHead {
  const T* weight;
  const float *cosines, *sines;
  std::int64_t half;
  float eps;
};

// Returns rstd. `before` may be null.
template <class T>
HWY_INLINE float norm_and_rotate(const ForwardHead<T>& head, T* x, T* before) {
  const std::int64_t half = head.half;
  auto sum = hn::Zero(FloatTag());
  for_each_vector(2 * half, [&](auto at) HWY_ATTR {
    const auto value = load(at, x);
    if (before != nullptr) store(at, value, before);
    sum = hn::MulAdd(value, value, sum);
  });
  const float rstd = 1.0f / std::sqrt(sum_of_lanes(sum) / static_cast<float>(2 * half) + head.eps);
  const auto factor = hn::Set(FloatTag(), rstd);
  for_each_vector(half, [&](auto at) HWY_ATTR {
    auto first = hn::Mul(load(at, head.weight), hn::Mul(load(at, x), factor));
    auto second = hn::Mul(load(at, head.weight + half), hn::Mul(load(at, x + half), factor));
    rotate<false>(load(at, head.cosines), load(at, head.sines), first, second);
    store(at, first, x);
    store(at, second, x + half);
  });
  return rstd;
}

template <class T>
HWY_INLINE void forward_tokens_of(const QkNormRopeForwardArgs& args, std::int64_t begin, std::int64_t end) {
  const std::int64_t heads = args.x.size(1), half = args.x.size(2) / 2;
  const T *q_weight = args.q_weight.data<T>(), *k_weight = args.k_weight.data<T>();
  T* before = args.before.rank() > 0 ? args.before.data<T>() : nullptr;
  for (std::int64_t t = begin; t < end; ++t) {
    const float* row =
        args.table.data<float>() + args.positions.data<std::int32_t>()[t] * args.table.stride(0);
    for (std::int64_t h = 0; h < heads; ++h) {
      const ForwardHead<T> head = {h < args.query_heads ? q_weight : k_weight, row, row + half, half,
                                   args.eps};
      T* copy = before == nullptr ? nullptr : before + t * args.before.stride(0) + h * args.before.stride(1);
      args.rstd.data<float>()[t * heads + h] =
          norm_and_rotate(head, args.x.data<T>() + t * args.x.stride(0) + h * args.x.stride(1), copy);
    }
  }
}

void forward_tokens(const QkNormRopeForwardArgs& args, std::int64_t begin, std::int64_t end) {
  if (args.x.dtype() == DType::kBF16) return forward_tokens_of<BFloat16>(args, begin, end);
  forward_tokens_of<float>(args, begin, end);
}

template <class T>
struct BackwardHead {
  const T *before, *weight;
  const float *cosines, *sines;
  std::int64_t half;
  float rstd;
  float* dweight;
};

// One half's gradient: what is left of dx when it goes through the norm.
template <class T, class Position>
HWY_INLINE void norm_backward(Position at, const BackwardHead<T>& head, std::int64_t offset, FloatVector mean,
                              FloatVector gradient, T* dx) {
  const auto rstd = hn::Set(FloatTag(), head.rstd);
  const auto normalized = hn::Mul(load(at, head.before + offset), rstd);
  float* dweight = head.dweight + offset;
  store(at, hn::MulAdd(gradient, normalized, load(at, dweight)), dweight);
  const auto inner = hn::NegMulAdd(normalized, mean, hn::Mul(gradient, load(at, head.weight + offset)));
  store(at, hn::Mul(rstd, inner), dx + offset);
}

// dx = rstd (weight g - normalized mean(weight g normalized)), normalized = before rstd, where g is dx turned
// back. g is computed twice rather than rounded in between.
template <class T>
HWY_INLINE void rotate_back_and_norm(const BackwardHead<T>& head, T* dx) {
  const std::int64_t half = head.half;
  auto sum = hn::Zero(FloatTag());
  for_each_vector(half, [&](auto at) HWY_ATTR {
    auto first = load(at, dx), second = load(at, dx + half);
    rotate<true>(load(at, head.cosines), load(at, head.sines), first, second);
    sum = hn::MulAdd(hn::Mul(first, load(at, head.weight)), load(at, head.before), sum);
    sum = hn::MulAdd(hn::Mul(second, load(at, head.weight + half)), load(at, head.before + half), sum);
  });
  const auto mean = hn::Set(FloatTag(), sum_of_lanes(sum) * head.rstd / static_cast<float>(2 * half));
  for_each_vector(half, [&](auto at) HWY_ATTR {
    auto first = load(at, dx), second = load(at, dx + half);
    rotate<true>(load(at, head.cosines), load(at, head.sines), first, second);
    norm_backward(at, head, 0, mean, first, dx);
    norm_backward(at, head, half, mean, second, dx);
  });
}

template <class T>
HWY_INLINE void backward_tokens_of(const QkNormRopeBackwardArgs& args, std::int64_t begin, std::int64_t end,
                                   float* part) {
  const std::int64_t heads = args.dx.size(1), head_dim = args.dx.size(2), half = head_dim / 2;
  const T *q_weight = args.q_weight.data<T>(), *k_weight = args.k_weight.data<T>();
  std::memset(part, 0, static_cast<std::size_t>(2 * head_dim) * sizeof(float));
  for (std::int64_t t = begin; t < end; ++t) {
    const float* row =
        args.table.data<float>() + args.positions.data<std::int32_t>()[t] * args.table.stride(0);
    for (std::int64_t h = 0; h < heads; ++h) {
      const bool query = h < args.query_heads;
      const BackwardHead<T> head = {
          args.before.data<T>() + t * args.before.stride(0) + h * args.before.stride(1),
          query ? q_weight : k_weight,
          row,
          row + half,
          half,
          args.rstd.data<float>()[t * heads + h],
          query ? part : part + head_dim};
      rotate_back_and_norm(head, args.dx.data<T>() + t * args.dx.stride(0) + h * args.dx.stride(1));
    }
  }
}

// Tokens [begin, end); their part of both weights' gradients is written to `part` [2, D].
void backward_tokens(const QkNormRopeBackwardArgs& args, std::int64_t begin, std::int64_t end, float* part) {
  if (args.dx.dtype() == DType::kBF16) return backward_tokens_of<BFloat16>(args, begin, end, part);
  backward_tokens_of<float>(args, begin, end, part);
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {

HWY_EXPORT(forward_tokens);
HWY_EXPORT(backward_tokens);

constexpr std::int64_t kElementGrain = 1 << 13;  // below, a second thread costs more than it saves

void check_positions(const char* op, const ConstView& positions, const ConstView& table) {
  const std::int32_t* ids = positions.data<std::int32_t>();
  for (std::int64_t t = 0; t < positions.size(0); ++t)
    TERROIR_CHECK(ids[t] >= 0 && ids[t] < table.size(0),
                  "{}: position {} of token {} is outside the table of {}", op, ids[t], t, table.size(0));
}

}  // namespace

namespace cpu {

void qk_norm_rope_forward(OpContext& ctx, const QkNormRopeForwardArgs& args) {
  check_positions("qk_norm_rope_forward", args.positions, args.table);
  const auto forward = HWY_DYNAMIC_DISPATCH(forward_tokens);
  const std::int64_t token_elements = args.x.size(1) * args.x.size(2);
  parallel_for(ctx.num_threads, args.x.size(0), kElementGrain / std::max<std::int64_t>(token_elements, 1),
               [&](std::int64_t begin, std::int64_t end) { forward(args, begin, end); });
}

void qk_norm_rope_backward(OpContext& ctx, const QkNormRopeBackwardArgs& args) {
  check_positions("qk_norm_rope_backward", args.positions, args.table);
  const auto backward = HWY_DYNAMIC_DISPATCH(backward_tokens);
  const std::int64_t head_dim = args.dx.size(2);
  const RowBlocks blocks(args.dx.size(0));
  float* parts = static_cast<float*>(args.workspace.raw());
  parallel_for(ctx.num_threads, blocks.count(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block)
      backward(args, blocks.begin(block), blocks.end(block), parts + block * 2 * head_dim);
  });
  float *dq_weight = args.dq_weight.data<float>(), *dk_weight = args.dk_weight.data<float>();
  for (std::int64_t i = 0; i < head_dim; ++i) {
    float dq = 0, dk = 0;
    for (std::int64_t block = 0; block < blocks.count(); ++block) {
      dq += parts[block * 2 * head_dim + i];
      dk += parts[(block * 2 + 1) * head_dim + i];
    }
    dq_weight[i] += dq;
    dk_weight[i] += dk;
  }
}

}  // namespace cpu
}  // namespace terroir
#endif
