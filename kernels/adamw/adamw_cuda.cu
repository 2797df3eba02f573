// With f32 throughout a step reads 16 and writes 12 bytes per parameter, or 14 with the bf16 copy, and
// computes little: memory decides.
#include "kernels/adamw/adamw.h"

#include <cfloat>
#include <cstring>
#include <type_traits>

#include "kernels/cuda/segments.cuh"

namespace terroir::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kElements = kVectorElements<float>;  // of each tensor that a thread handles at once
constexpr int kVectorsPerThread = 4;
constexpr std::int64_t kChunk = std::int64_t{kThreads} * kElements * kVectorsPerThread;

template <class Param, class Grad>
struct Segment {
  Param* params;
  const Grad* grads;
  float *exp_avg, *exp_avg_sq;
  __nv_bfloat16* params_bf16;  // or null
  const StepScalars* scalars;
  std::int64_t n;
  double weight_decay;
  float one_minus_beta1, beta2, one_minus_beta2, eps;
  std::uint32_t first_element;
  unsigned first_chunk;
  bool vectors;  // all pointers allow access to kElements at once

  __device__ __forceinline__ std::uint32_t number_of(std::int64_t at) const {
    return first_element + static_cast<std::uint32_t>(at);
  }
};

// The step's constants, rounded as in adamw_cpu.cc.
struct Factors {
  float grad_scale, one_minus_beta1, beta2, one_minus_beta2, eps, decay, step, root_scale;
  std::uint32_t rounding_seed;
};

template <class Segment>
__device__ __forceinline__ Factors make_factors(const Segment& segment, const StepScalars& scalars) {
  return {scalars.grad_scale,
          segment.one_minus_beta1,
          segment.beta2,
          segment.one_minus_beta2,
          segment.eps,
          static_cast<float>(1 - static_cast<double>(scalars.learning_rate) * segment.weight_decay),
          scalars.learning_rate / scalars.bias_correction1,
          1 / sqrtf(scalars.bias_correction2),
          scalars.rounding_seed};
}

// Products whose sum follows are rounded explicitly: left to the compiler, elements at a tensor's end could
// be computed otherwise than those before, and results would depend on how the parameters are cut.
__device__ __forceinline__ void update(float& p, float grad, float& m, float& v, const Factors& f) {
  const float g = __fmul_rn(grad, f.grad_scale);
  m = fmaf(g - m, f.one_minus_beta1, m);
  v = fmaf(v, f.beta2, __fmul_rn(__fmul_rn(g, g), f.one_minus_beta2));
  const float root = fmaf(sqrtf(v), f.root_scale, f.eps);
  p = fmaf(p, f.decay, -__fmul_rn(f.step, m / root));
}

// Four elements at once: as a Vector, four bf16 become four accesses (nvcc 13.0).
__device__ __forceinline__ Vector<float, kElements> load_floats(const float* from) {
  return load_vector(from);
}
__device__ __forceinline__ Vector<float, kElements> load_floats(const __nv_bfloat16* from) {
  const auto together = *reinterpret_cast<const std::uint64_t*>(from);
  __nv_bfloat16 values[kElements];
  static_assert(sizeof(together) == sizeof(values));
  memcpy(values, &together, sizeof(together));
  Vector<float, kElements> result;
#pragma unroll
  for (int i = 0; i < kElements; ++i) result.v[i] = to_float(values[i]);
  return result;
}
__device__ __forceinline__ void store_bf16(__nv_bfloat16* to, const __nv_bfloat16 (&values)[kElements]) {
  std::uint64_t together;
  static_assert(sizeof(together) == sizeof(values));
  memcpy(&together, values, sizeof(together));
  *reinterpret_cast<std::uint64_t*>(to) = together;
}

// The same numbers as in adamw_cpu.cc.
__device__ __forceinline__ std::uint32_t random_16_bits(std::uint32_t seed, std::uint32_t element) {
  std::uint32_t x = element * 0x9E3779B9U + seed;
  x = (x ^ (x >> 16)) * 0x7FEB352DU;
  x = (x ^ (x >> 15)) * 0x846CA68BU;
  return x >> 16;
}

// One of the two bf16 numbers around `value`, the nearer the likelier. `element`: the parameter's number.
__device__ __forceinline__ __nv_bfloat16 rounded_stochastically(float value, const Factors& factors,
                                                                std::uint32_t element) {
  if (!(fabsf(value) <= FLT_MAX)) return from_float<__nv_bfloat16>(value);
  std::uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  bits += random_16_bits(factors.rounding_seed, element);
  const auto upper = static_cast<std::uint16_t>(bits >> 16);
  __nv_bfloat16 result;
  memcpy(&result, &upper, sizeof(result));
  return result;
}

template <class Param, class Grad>
__device__ __forceinline__ void update_vector(const Segment<Param, Grad>& segment, const Factors& factors,
                                              std::int64_t at) {
  auto p = load_floats(segment.params + at), m = load_vector(segment.exp_avg + at),
       v = load_vector(segment.exp_avg_sq + at);
  const auto g = load_floats(segment.grads + at);
  __nv_bfloat16 rounded[kElements];
#pragma unroll
  for (int i = 0; i < kElements; ++i) {
    update(p.v[i], g.v[i], m.v[i], v.v[i], factors);
    if constexpr (std::is_same_v<Param, float>) {
      rounded[i] = from_float<__nv_bfloat16>(p.v[i]);
    } else {
      rounded[i] = rounded_stochastically(p.v[i], factors, segment.number_of(at + i));
    }
  }
  store_vector(segment.exp_avg + at, m);
  store_vector(segment.exp_avg_sq + at, v);
  if constexpr (std::is_same_v<Param, float>) {
    store_vector(segment.params + at, p);
    if (segment.params_bf16 != nullptr) store_bf16(segment.params_bf16 + at, rounded);
  } else {
    store_bf16(segment.params + at, rounded);
  }
}

template <class Param, class Grad>
__device__ __forceinline__ void update_elements(const Segment<Param, Grad>& segment, const Factors& factors,
                                                std::int64_t begin, std::int64_t end) {
  for (std::int64_t at = begin; at < end; ++at) {
    float p = to_float(segment.params[at]), m = segment.exp_avg[at], v = segment.exp_avg_sq[at];
    update(p, to_float(segment.grads[at]), m, v, factors);
    segment.exp_avg[at] = m;
    segment.exp_avg_sq[at] = v;
    if constexpr (std::is_same_v<Param, float>) {
      segment.params[at] = p;
      if (segment.params_bf16 != nullptr) segment.params_bf16[at] = from_float<__nv_bfloat16>(p);
    } else {
      segment.params[at] = rounded_stochastically(p, factors, segment.number_of(at));
    }
  }
}

// One chunk per block. Five blocks per SM: 80 KB of loads on their way.
template <class Param, class Grad>
__global__ void __launch_bounds__(kThreads, 5) adamw_kernel(const Segments<Segment<Param, Grad>> segments) {
  const int index = segments.index_of(blockIdx.x);
  const Segment<Param, Grad>& segment = segments.all[index];
  const StepScalars scalars = *segment.scalars;
  if (scalars.skip != 0) return;
  const Factors factors = make_factors(segment, scalars);
  std::int64_t at = static_cast<std::int64_t>(blockIdx.x - segment.first_chunk) * kChunk +
                    std::int64_t{threadIdx.x} * kElements;
  for (int i = 0; i < kVectorsPerThread && at < segment.n; ++i, at += kThreads * kElements) {
    const std::int64_t end = at + kElements < segment.n ? at + kElements : segment.n;
    if (segment.vectors && end - at == kElements) {
      update_vector(segment, factors, at);
    } else {
      update_elements(segment, factors, at, end);
    }
  }
}

template <class T>
bool is_aligned(const T* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % (kElements * sizeof(T)) == 0;
}

template <class Param, class Grad>
Segment<Param, Grad> make_segment(const AdamWArgs& args) {
  Segment<Param, Grad> segment = {};
  segment.params = static_cast<Param*>(args.params.raw());
  segment.grads = static_cast<const Grad*>(args.grads.raw());
  segment.exp_avg = static_cast<float*>(args.exp_avg.raw());
  segment.exp_avg_sq = static_cast<float*>(args.exp_avg_sq.raw());
  segment.params_bf16 = static_cast<__nv_bfloat16*>(args.params_bf16.raw());
  segment.scalars = args.scalars;
  segment.n = args.params.numel();
  segment.weight_decay = args.options.weight_decay;
  segment.one_minus_beta1 = static_cast<float>(1 - args.options.beta1);
  segment.beta2 = static_cast<float>(args.options.beta2);
  segment.one_minus_beta2 = static_cast<float>(1 - args.options.beta2);
  segment.eps = static_cast<float>(args.options.eps);
  segment.first_element = args.first_element;
  segment.vectors = is_aligned(segment.params) && is_aligned(segment.grads) && is_aligned(segment.exp_avg) &&
                    is_aligned(segment.exp_avg_sq) && is_aligned(segment.params_bf16);
  return segment;
}

// Those of the list that have these types.
template <class Param, class Grad>
void update_all(OpContext& ctx, const std::span<const AdamWArgs>& list) {
  using S = Segment<Param, Grad>;
  const auto is = [](const ConstView& view, auto value) {
    return (view.dtype() == DType::kF32) == std::is_same_v<decltype(value), float>;
  };
  for_each_list<S>(
      list.size(), kChunk,
      [&](std::size_t i) {
        const AdamWArgs& args = list[i];
        return is(args.params, Param()) && is(args.grads, Grad()) ? make_segment<Param, Grad>(args) : S{};
      },
      [&](const Segments<S>& segments) {
        launch(adamw_kernel<Param, Grad>, dim3(segments.num_chunks), dim3(kThreads), 0, native_stream(ctx),
               segments);
      });
}

}  // namespace

void adamw(OpContext& ctx, const std::span<const AdamWArgs>& list) {
  update_all<float, float>(ctx, list);
  update_all<float, __nv_bfloat16>(ctx, list);
  update_all<__nv_bfloat16, float>(ctx, list);
  update_all<__nv_bfloat16, __nv_bfloat16>(ctx, list);
}

}  // namespace terroir::cuda
