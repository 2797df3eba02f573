#include "kernels/cuda/runs.cuh"
#include "kernels/tensor/elementwise.h"

namespace terroir::cuda {
namespace {

// to = map(from), element by element.
template <class From, class To, class Map>
struct Unary {
  static constexpr int kViews = 2, kPieces = 4;
  const From* from;
  To* to;
  Map map;

  template <int kWidth>
  using Loaded = Vector<From, kWidth>;
  template <int kWidth>
  __device__ __forceinline__ Loaded<kWidth> load(const Offsets<2>& at) const {
    return load_piece<kWidth>(from + at.v[0]);
  }
  template <int kWidth>
  __device__ __forceinline__ void store(const Offsets<2>& at, const Loaded<kWidth>& loaded) const {
    Vector<To, kWidth> result;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) result.v[i] = map(loaded.v[i]);
    store_piece<kWidth>(to + at.v[1], result);
  }
};

struct Same {
  template <class T>
  __device__ __forceinline__ T operator()(T value) const {
    return value;
  }
};
template <class To>
struct Convert {
  template <class From>
  __device__ __forceinline__ To operator()(From value) const {
    return from_float<To>(to_float(value));
  }
};
struct Times {
  float factor;
  __device__ __forceinline__ float operator()(float value) const { return value * factor; }
};

__device__ __forceinline__ double sum_of(double a, double b) { return a + b; }
__device__ __forceinline__ float sum_of(float a, float b) { return a + b; }
__device__ __forceinline__ __nv_bfloat16 sum_of(__nv_bfloat16 a, __nv_bfloat16 b) {
  return from_float<__nv_bfloat16>(to_float(a) + to_float(b));
}

template <class T>
struct Sum {
  static constexpr int kViews = 3, kPieces = 2;
  const T *a, *b;
  T* out;

  template <int kWidth>
  struct Loaded {
    Vector<T, kWidth> a, b;
  };
  template <int kWidth>
  __device__ __forceinline__ Loaded<kWidth> load(const Offsets<3>& at) const {
    return {load_piece<kWidth>(a + at.v[0]), load_piece<kWidth>(b + at.v[1])};
  }
  template <int kWidth>
  __device__ __forceinline__ void store(const Offsets<3>& at, const Loaded<kWidth>& loaded) const {
    Vector<T, kWidth> result;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) result.v[i] = sum_of(loaded.a.v[i], loaded.b.v[i]);
    store_piece<kWidth>(out + at.v[2], result);
  }
};

template <class T>
struct Constant {
  static constexpr int kViews = 1, kPieces = 4;
  T* out;
  T value;

  template <int kWidth>
  struct Loaded {};
  template <int kWidth>
  __device__ __forceinline__ Loaded<kWidth> load(const Offsets<1>&) const {
    return {};
  }
  template <int kWidth>
  __device__ __forceinline__ void store(const Offsets<1>& at, const Loaded<kWidth>&) const {
    Vector<T, kWidth> result;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) result.v[i] = value;
    store_piece<kWidth>(out + at.v[0], result);
  }
};

// Moves elements of kWidth * sizeof(Word) bytes. False, and nothing done, where they do not fit `args`.
template <class Word, int kWidth>
bool copy_in_words(const OpContext& ctx, const CopyArgs& args) {
  using Element = Vector<Word, kWidth>;
  const auto per_element = static_cast<std::int64_t>(sizeof(Element)) / dtype_bytes(args.from.dtype());
  const std::array<ConstView, 2> views = {args.from, args.to};
  DeviceRuns<2> runs(views);
  if (per_element == 0 || !runs.divisible(per_element, views)) return false;
  runs.row_length /= per_element;
  for (auto& strides : runs.strides)
    for (std::int64_t& stride : strides) stride /= per_element;
  const Unary<Element, Element, Same> op{static_cast<const Element*>(args.from.raw()),
                                         static_cast<Element*>(args.to.raw()), Same{}};
  launch_runs<1>(ctx, runs, op);
  return true;
}

template <int kWidth, class From, class To, class Map>
void map_elements(const OpContext& ctx, const ConstView& from, const View& to, const Map& map) {
  const Unary<From, To, Map> op{static_cast<const From*>(from.raw()), static_cast<To*>(to.raw()), map};
  run_over<kWidth>(ctx, {from, to}, op);
}

template <class T>
void add_elements(const OpContext& ctx, const AddArgs& args) {
  const Sum<T> op{static_cast<const T*>(args.a.raw()), static_cast<const T*>(args.b.raw()),
                  static_cast<T*>(args.out.raw())};
  run_over<kVectorElements<T>>(ctx, {args.a, args.b, args.out}, op);
}

template <class T>
void fill_elements(const OpContext& ctx, const View& out, T value) {
  run_over<kVectorElements<T>>(ctx, {out}, Constant<T>{static_cast<T*>(out.raw()), value});
}

}  // namespace

void copy(OpContext& ctx, const CopyArgs& args) {
  static_cast<void>(copy_in_words<std::uint32_t, 4>(ctx, args) ||
                    copy_in_words<std::uint32_t, 2>(ctx, args) ||
                    copy_in_words<std::uint32_t, 1>(ctx, args) ||
                    copy_in_words<std::uint16_t, 1>(ctx, args) || copy_in_words<std::uint8_t, 1>(ctx, args));
}

// Four elements at once: 8 bytes on one side, 16 on the other, both without gaps between threads.
void cast(OpContext& ctx, const CopyArgs& args) {
  if (args.to.dtype() == DType::kBF16) {
    map_elements<4, float, __nv_bfloat16>(ctx, args.from, args.to, Convert<__nv_bfloat16>{});
  } else {
    map_elements<4, __nv_bfloat16, float>(ctx, args.from, args.to, Convert<float>{});
  }
}

void add(OpContext& ctx, const AddArgs& args) {
  switch (args.a.dtype()) {
    case DType::kF64:
      return add_elements<double>(ctx, args);
    case DType::kBF16:
      return add_elements<__nv_bfloat16>(ctx, args);
    default:
      return add_elements<float>(ctx, args);
  }
}

void scale(OpContext& ctx, const ScaleArgs& args) {
  map_elements<4, float, float>(ctx, args.x, args.x, Times{args.factor});
}

void fill(OpContext& ctx, const FillArgs& args) {
  if (args.out.dtype() == DType::kBF16) {
    fill_elements(ctx, args.out, __float2bfloat16_rn(args.value));
  } else {
    fill_elements(ctx, args.out, args.value);
  }
}

}  // namespace terroir::cuda
