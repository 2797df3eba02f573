#include "kernels/tensor/elementwise.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tensor/elementwise_cpu.cc"
#include <hwy/foreach_target.h>

#include "kernels/tensor/runs.h"
#include "kernels/tensor/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {

void round_run(const float* from, std::int64_t n, BFloat16* to) {
  for_each_vector(n, [=](auto at) HWY_ATTR { store(at, load(at, from), to); });
}

void widen_run(const BFloat16* from, std::int64_t n, float* to) {
  for_each_vector(n, [=](auto at) HWY_ATTR { store(at, load(at, from), to); });
}

template <class T>
HWY_INLINE void add_run(const T* a, const T* b, std::int64_t n, T* out) {
  for_each_vector(n, [=](auto at) HWY_ATTR { store(at, hn::Add(load(at, a), load(at, b)), out); });
}
void add_run_f32(const float* a, const float* b, std::int64_t n, float* out) { add_run(a, b, n, out); }
void add_run_bf16(const BFloat16* a, const BFloat16* b, std::int64_t n, BFloat16* out) {
  add_run(a, b, n, out);
}

void scale_run(float factor, std::int64_t n, float* x) {
  const auto factors = hn::Set(FloatTag(), factor);
  for_each_vector(n, [=](auto at) HWY_ATTR { store(at, hn::Mul(load(at, x), factors), x); });
}

template <class T>
HWY_INLINE void fill_run(float value, std::int64_t n, T* out) {
  const auto values = hn::Set(FloatTag(), value);
  for_each_vector(n, [=](auto at) HWY_ATTR { store(at, values, out); });
}
void fill_run_f32(float value, std::int64_t n, float* out) { fill_run(value, n, out); }
void fill_run_bf16(float value, std::int64_t n, BFloat16* out) { fill_run(value, n, out); }

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {

HWY_EXPORT(round_run);
HWY_EXPORT(widen_run);
HWY_EXPORT(add_run_f32);
HWY_EXPORT(add_run_bf16);
HWY_EXPORT(scale_run);
HWY_EXPORT(fill_run_f32);
HWY_EXPORT(fill_run_bf16);

// Below this many elements a second thread costs more than it saves.
constexpr std::int64_t kGrain = 1 << 14;

void add_run_f64(const double* a, const double* b, std::int64_t n, double* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = a[i] + b[i];
}

template <class T>
void add_runs(OpContext& ctx, const AddArgs& args, void (*add_run)(const T*, const T*, std::int64_t, T*)) {
  const Rows<3> rows({args.a, args.b, args.out});
  parallel_for_each_run(ctx.num_threads, rows, kGrain, [&](const auto& offsets, std::int64_t count) {
    add_run(args.a.data<T>() + offsets[0], args.b.data<T>() + offsets[1], count,
            args.out.data<T>() + offsets[2]);
  });
}

}  // namespace

namespace cpu {

void copy(OpContext& ctx, const CopyArgs& args) {
  const std::int64_t bytes = dtype_bytes(args.from.dtype());
  const Rows<2> rows({args.from, args.to});
  parallel_for_each_run(ctx.num_threads, rows, kGrain, [&](const auto& offsets, std::int64_t count) {
    std::memcpy(static_cast<std::uint8_t*>(args.to.raw()) + offsets[1] * bytes,
                static_cast<const std::uint8_t*>(args.from.raw()) + offsets[0] * bytes,
                static_cast<std::size_t>(count * bytes));
  });
}

void cast(OpContext& ctx, const CopyArgs& args) {
  const bool rounds = args.to.dtype() == DType::kBF16;
  const auto round = HWY_DYNAMIC_DISPATCH(round_run);
  const auto widen = HWY_DYNAMIC_DISPATCH(widen_run);
  const Rows<2> rows({args.from, args.to});
  parallel_for_each_run(ctx.num_threads, rows, kGrain, [&](const auto& offsets, std::int64_t count) {
    if (rounds) {
      round(args.from.data<float>() + offsets[0], count, args.to.data<BFloat16>() + offsets[1]);
    } else {
      widen(args.from.data<BFloat16>() + offsets[0], count, args.to.data<float>() + offsets[1]);
    }
  });
}

void add(OpContext& ctx, const AddArgs& args) {
  switch (args.a.dtype()) {
    case DType::kF64:
      return add_runs<double>(ctx, args, add_run_f64);
    case DType::kBF16:
      return add_runs<BFloat16>(ctx, args, HWY_DYNAMIC_DISPATCH(add_run_bf16));
    default:
      return add_runs<float>(ctx, args, HWY_DYNAMIC_DISPATCH(add_run_f32));
  }
}

void scale(OpContext& ctx, const ScaleArgs& args) {
  const auto scale = HWY_DYNAMIC_DISPATCH(scale_run);
  parallel_for_each_run(ctx.num_threads, Rows<1>({args.x}), kGrain,
                        [&](const auto& offsets, std::int64_t count) {
                          scale(args.factor, count, args.x.data<float>() + offsets[0]);
                        });
}

void fill(OpContext& ctx, const FillArgs& args) {
  const bool is_f32 = args.out.dtype() == DType::kF32;
  const auto fill_f32 = HWY_DYNAMIC_DISPATCH(fill_run_f32);
  const auto fill_bf16 = HWY_DYNAMIC_DISPATCH(fill_run_bf16);
  parallel_for_each_run(ctx.num_threads, Rows<1>({args.out}), kGrain,
                        [&](const auto& offsets, std::int64_t count) {
                          if (is_f32) {
                            fill_f32(args.value, count, args.out.data<float>() + offsets[0]);
                          } else {
                            fill_bf16(args.value, count, args.out.data<BFloat16>() + offsets[0]);
                          }
                        });
}

}  // namespace cpu
}  // namespace terroir
#endif
