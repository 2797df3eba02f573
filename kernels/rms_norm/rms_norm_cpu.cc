#include "kernels/rms_norm/rms_norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rms_norm/rms_norm_cpu.cc"
#include <hwy/foreach_target.h>

#include <cmath>

#include "base/parallel_for.h"
#include "kernels/rms_norm/row_blocks.h"
#include "kernels/tensor/simd-inl.h"

#ifndef TERROIR_KERNELS_RMS_NORM_ROW_ADDRESS
#define TERROIR_KERNELS_RMS_NORM_ROW_ADDRESS
namespace terroir {
namespace {

// Finds row r of [T, H], or of [T, heads, H] with r = t * heads + head.
template <class T>
class RowAddress {
 public:
  template <class AnyView>
  explicit RowAddress(const AnyView& view)
      : data_(view.rank() > 0 ? view.template data<std::remove_const_t<T>>() : nullptr),
        heads_(view.rank() == 3 ? view.size(1) : 1),
        token_stride_(view.stride(0)),
        head_stride_(view.rank() == 3 ? view.stride(1) : 0) {}
  bool given() const { return data_ != nullptr; }
  T* operator[](std::int64_t row) const {
    return data_ + row / heads_ * token_stride_ + row % heads_ * head_stride_;
  }

 private:
  T* data_;
  std::int64_t heads_, token_stride_, head_stride_;
};

}  // namespace
}  // namespace terroir
#endif

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

// Sum of squares of a row.
template <class T>
HWY_INLINE float sum_squares(const T* row, std::int64_t n) {
  auto sum = hn::Zero(FloatTag());
  for_each_vector(n, [&](auto at) HWY_ATTR {
    const auto value = load(at, row);
    sum = hn::MulAdd(value, value, sum);
  });
  return sum_of_lanes(sum);
}

template <class T>
HWY_INLINE void forward_rows(const RmsNormForwardArgs& args, std::int64_t begin, std::int64_t end) {
  const std::int64_t hidden = args.weight.size(0);
  const RowAddress<const T> x_rows(args.x), delta_rows(args.delta);
  const RowAddress<T> residual_rows(args.residual_out), y_rows(args.y);
  const T* weight = args.weight.data<T>();
  float* rstd = args.rstd.data<float>();
  for (std::int64_t r = begin; r < end; ++r) {
    const T* row = x_rows[r];
    if (delta_rows.given()) {
      T* residual = residual_rows[r];
      for_each_vector(hidden, [x = row, delta = delta_rows[r], residual](auto at)
                                  HWY_ATTR { store(at, hn::Add(load(at, x), load(at, delta)), residual); });
      row = residual;
    }
    rstd[r] = 1.0f / std::sqrt(sum_squares(row, hidden) / static_cast<float>(hidden) + args.eps);
    const auto factor = hn::Set(FloatTag(), rstd[r]);
    for_each_vector(hidden, [=, y = y_rows[r]](auto at) HWY_ATTR {
      store(at, hn::Mul(load(at, weight), hn::Mul(load(at, row), factor)), y);
    });
  }
}

void rms_norm_forward_rows(const RmsNormForwardArgs& args, std::int64_t begin, std::int64_t end) {
  if (args.x.dtype() == DType::kBF16) return forward_rows<BFloat16>(args, begin, end);
  forward_rows<float>(args, begin, end);
}

// One row of backward: dx = rstd (weight dy - normalized mean(weight dy normalized)) + dresidual, where
// normalized = residual rstd; dweight += dy normalized.
template <class T>
struct BackwardRow {
  const T *dy, *dresidual, *residual, *weight;
  float rstd;
  T* dx;
  float* dweight;
};

template <class T>
HWY_INLINE void rms_norm_backward_row(const BackwardRow<T>& row, std::int64_t hidden) {
  auto sum = hn::Zero(FloatTag());
  for_each_vector(hidden, [&](auto at) HWY_ATTR {
    sum = hn::MulAdd(hn::Mul(load(at, row.dy), load(at, row.weight)), load(at, row.residual), sum);
  });
  const auto rstd = hn::Set(FloatTag(), row.rstd);
  const auto mean = hn::Set(FloatTag(), sum_of_lanes(sum) * row.rstd / static_cast<float>(hidden));
  for_each_vector(hidden, [&](auto at) HWY_ATTR {
    const auto dy = load(at, row.dy);
    const auto normalized = hn::Mul(load(at, row.residual), rstd);
    store(at, hn::MulAdd(dy, normalized, load(at, row.dweight)), row.dweight);
    const auto inner = hn::NegMulAdd(normalized, mean, hn::Mul(dy, load(at, row.weight)));
    const auto later = row.dresidual != nullptr ? load(at, row.dresidual) : hn::Zero(FloatTag());
    store(at, hn::MulAdd(rstd, inner, later), row.dx);
  });
}

// Rows [begin, end); their part of dweight is written to `dweight_part`.
template <class T>
HWY_INLINE void backward_block(const RmsNormBackwardArgs& args, std::int64_t begin, std::int64_t end,
                               float* dweight_part) {
  const std::int64_t hidden = args.weight.size(0);
  const RowAddress<const T> dy(args.dy), dresidual(args.dresidual), residual(args.residual);
  const RowAddress<T> dx(args.dx);
  const float* rstd = args.rstd.data<float>();
  std::memset(dweight_part, 0, static_cast<std::size_t>(hidden) * sizeof(float));
  for (std::int64_t r = begin; r < end; ++r)
    rms_norm_backward_row<T>({dy[r], dresidual.given() ? dresidual[r] : nullptr, residual[r],
                              args.weight.data<T>(), rstd[r], dx[r], dweight_part},
                             hidden);
}

void rms_norm_backward_block(const RmsNormBackwardArgs& args, std::int64_t begin, std::int64_t end,
                             float* dweight_part) {
  if (args.dy.dtype() == DType::kBF16) return backward_block<BFloat16>(args, begin, end, dweight_part);
  backward_block<float>(args, begin, end, dweight_part);
}

// dweight += the parts [blocks, hidden], in their order, columns [begin, end) only.
void rms_norm_sum_parts(const float* parts, std::int64_t blocks, std::int64_t hidden, std::int64_t begin,
                        std::int64_t end, float* dweight) {
  for_each_vector(end - begin, [=](auto at) HWY_ATTR {
    auto sum = hn::Zero(FloatTag());
    for (std::int64_t block = 0; block < blocks; ++block)
      sum = hn::Add(sum, load(at, parts + block * hidden + begin));
    store(at, hn::Add(load(at, dweight + begin), sum), dweight + begin);
  });
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {

HWY_EXPORT(rms_norm_forward_rows);
HWY_EXPORT(rms_norm_backward_block);
HWY_EXPORT(rms_norm_sum_parts);

constexpr std::int64_t kElementGrain = 1 << 13;  // below, a second thread costs more than it saves
constexpr std::int64_t kColumnGrain = 512;

}  // namespace

namespace cpu {

void rms_norm_forward(OpContext& ctx, const RmsNormForwardArgs& args) {
  const auto rows = HWY_DYNAMIC_DISPATCH(rms_norm_forward_rows);
  const std::int64_t grain = kElementGrain / std::max<std::int64_t>(args.weight.size(0), 1);
  parallel_for(ctx.num_threads, args.rstd.numel(), grain,
               [&](std::int64_t begin, std::int64_t end) { rows(args, begin, end); });
}

void rms_norm_backward(OpContext& ctx, const RmsNormBackwardArgs& args) {
  const auto block_rows = HWY_DYNAMIC_DISPATCH(rms_norm_backward_block);
  const auto sum_parts = HWY_DYNAMIC_DISPATCH(rms_norm_sum_parts);
  const std::int64_t hidden = args.weight.size(0);
  const RowBlocks blocks(args.rstd.numel());
  float* parts = static_cast<float*>(args.workspace.raw());
  parallel_for(ctx.num_threads, blocks.count(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block)
      block_rows(args, blocks.begin(block), blocks.end(block), parts + block * hidden);
  });
  parallel_for(ctx.num_threads, hidden, kColumnGrain, [&](std::int64_t begin, std::int64_t end) {
    sum_parts(parts, blocks.count(), hidden, begin, end, args.dweight.data<float>());
  });
}

}  // namespace cpu
}  // namespace terroir
#endif
