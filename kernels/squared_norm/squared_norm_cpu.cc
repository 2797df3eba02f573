#include "kernels/squared_norm/squared_norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/squared_norm/squared_norm_cpu.cc"
#include <hwy/foreach_target.h>

#include <array>
#include <cmath>

#include "base/parallel_for.h"
#include "kernels/tensor/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

using DoubleTag = hn::ScalableTag<double>;

HWY_INLINE float widened(float value) { return value; }
HWY_INLINE float widened(BFloat16 value) {
  const std::uint32_t bits = std::uint32_t{value.bits} << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}
HWY_INLINE hn::Vec<DoubleTag> load_doubles(const float* from) {
  return hn::PromoteTo(DoubleTag(), hn::LoadU(hn::Rebind<float, DoubleTag>(), from));
}
HWY_INLINE hn::Vec<DoubleTag> load_doubles(const BFloat16* from) {
  const hn::Rebind<std::uint16_t, DoubleTag> d16;
  const hn::Rebind<std::uint32_t, DoubleTag> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const std::uint16_t*>(from));
  const auto wide = hn::ShiftLeft<16>(hn::PromoteTo(d32, bits));
  return hn::PromoteTo(DoubleTag(), hn::BitCast(hn::Rebind<float, DoubleTag>(), wide));
}

template <class T>
HWY_INLINE double sum_of_squares_of(const T* x, std::int64_t n) {
  const DoubleTag d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const auto value0 = load_doubles(x + i), value1 = load_doubles(x + i + lanes);
    sum0 = hn::MulAdd(value0, value0, sum0);
    sum1 = hn::MulAdd(value1, value1, sum1);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
  for (; i < n; ++i) sum += static_cast<double>(widened(x[i])) * static_cast<double>(widened(x[i]));
  return sum;
}

// Elements [begin, begin + n).
double sum_of_squares_f64(const ConstView& x, std::int64_t begin, std::int64_t n) {
  if (x.dtype() == DType::kBF16) return sum_of_squares_of(x.data<BFloat16>() + begin, n);
  return sum_of_squares_of(x.data<float>() + begin, n);
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {

HWY_EXPORT(sum_of_squares_f64);

constexpr std::int64_t kMaxPieces = 64;
constexpr std::int64_t kMinPieceElements = 4096;

double sum_of_squares(int num_threads, const ConstView& view) {
  const auto sum_of_piece = HWY_DYNAMIC_DISPATCH(sum_of_squares_f64);
  const std::int64_t n = view.numel();
  const std::int64_t length = std::max(kMinPieceElements, (n + kMaxPieces - 1) / kMaxPieces);
  const std::int64_t pieces = (n + length - 1) / length;
  std::array<double, kMaxPieces> sums{};
  parallel_for(num_threads, pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t piece = begin; piece < end; ++piece)
      sums[static_cast<std::size_t>(piece)] =
          sum_of_piece(view, piece * length, std::min(length, n - piece * length));
  });
  double total = 0;
  for (std::int64_t piece = 0; piece < pieces; ++piece) total += sums[static_cast<std::size_t>(piece)];
  return total;
}

}  // namespace

namespace cpu {

// Each x is cut into at most 64 pieces, a function of its size only, whose sums are added in order.
void squared_norm(OpContext& ctx, const SquaredNormArgs& args) {
  for (const ConstView& x : args.x) {
    const double sum = sum_of_squares(ctx.num_threads, x);
    *args.out.data<double>() += sum;
    if (args.nonfinite && !std::isfinite(sum)) *args.nonfinite.data<std::int32_t>() = 1;
  }
}

}  // namespace cpu
}  // namespace terroir
#endif
