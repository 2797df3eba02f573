#include "kernels/cuda/runs.cuh"
#include "kernels/swiglu/swiglu.h"

namespace terroir::cuda {
namespace {

// sigmoid(x) and sigmoid(-x) = 1 - sigmoid(x), both to full relative accuracy.
struct Sigmoid {
  float of_x, of_minus_x;
};
__device__ __forceinline__ Sigmoid sigmoid(float x) {
  const float e = expf(-fabsf(x));
  const float larger = 1.0F / (1.0F + e), smaller = e * larger;
  return x >= 0 ? Sigmoid{larger, smaller} : Sigmoid{smaller, larger};
}

template <class T>
struct Forward {
  static constexpr int kViews = 3, kPieces = 2;
  const T *gate, *up;
  T* out;

  template <int kWidth>
  struct Loaded {
    Vector<T, kWidth> gate, up;
  };
  template <int kWidth>
  __device__ __forceinline__ Loaded<kWidth> load(const Offsets<3>& at) const {
    return {load_piece<kWidth>(gate + at.v[0]), load_piece<kWidth>(up + at.v[1])};
  }
  template <int kWidth>
  __device__ __forceinline__ void store(const Offsets<3>& at, const Loaded<kWidth>& loaded) const {
    Vector<T, kWidth> result;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float g = to_float(loaded.gate.v[i]);
      result.v[i] = from_float<T>(g * sigmoid(g).of_x * to_float(loaded.up.v[i]));
    }
    store_piece<kWidth>(out + at.v[2], result);
  }
};

template <class T>
struct Backward {
  static constexpr int kViews = 5, kPieces = 1;
  const T *dout, *gate, *up;
  T *dgate, *dup;

  template <int kWidth>
  struct Loaded {
    Vector<T, kWidth> dout, gate, up;
  };
  template <int kWidth>
  __device__ __forceinline__ Loaded<kWidth> load(const Offsets<5>& at) const {
    return {load_piece<kWidth>(dout + at.v[0]), load_piece<kWidth>(gate + at.v[1]),
            load_piece<kWidth>(up + at.v[2])};
  }
  template <int kWidth>
  __device__ __forceinline__ void store(const Offsets<5>& at, const Loaded<kWidth>& loaded) const {
    Vector<T, kWidth> dgates, dups;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float d = to_float(loaded.dout.v[i]), g = to_float(loaded.gate.v[i]);
      const Sigmoid s = sigmoid(g);
      const float silu = g * s.of_x;
      dgates.v[i] = from_float<T>(d * to_float(loaded.up.v[i]) * (silu * s.of_minus_x + s.of_x));
      dups.v[i] = from_float<T>(d * silu);
    }
    store_piece<kWidth>(dgate + at.v[3], dgates);
    store_piece<kWidth>(dup + at.v[4], dups);
  }
};

template <class T>
void forward(const OpContext& ctx, const SwigluForwardArgs& args) {
  const Forward<T> op{static_cast<const T*>(args.gate.raw()), static_cast<const T*>(args.up.raw()),
                      static_cast<T*>(args.out.raw())};
  run_over<kVectorElements<T>>(ctx, {args.gate, args.up, args.out}, op);
}

template <class T>
void backward(const OpContext& ctx, const SwigluBackwardArgs& args) {
  const Backward<T> op{static_cast<const T*>(args.dout.raw()), static_cast<const T*>(args.gate.raw()),
                       static_cast<const T*>(args.up.raw()), static_cast<T*>(args.dgate.raw()),
                       static_cast<T*>(args.dup.raw())};
  run_over<kVectorElements<T>>(ctx, {args.dout, args.gate, args.up, args.dgate, args.dup}, op);
}

}  // namespace

void swiglu_forward(OpContext& ctx, const SwigluForwardArgs& args) {
  if (args.gate.dtype() == DType::kBF16) {
    forward<__nv_bfloat16>(ctx, args);
  } else {
    forward<float>(ctx, args);
  }
}

void swiglu_backward(OpContext& ctx, const SwigluBackwardArgs& args) {
  if (args.gate.dtype() == DType::kBF16) {
    backward<__nv_bfloat16>(ctx, args);
  } else {
    backward<float>(ctx, args);
  }
}

}  // namespace terroir::cuda
