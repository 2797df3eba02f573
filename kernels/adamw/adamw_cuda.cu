// A step reads 16 and writes 12 bytes per parameter, or 14 with the bf16 copy, and computes little: memory
// decides.
#include "kernels/adamw/adamw.h"

#include <cstring>

#include "kernels/cuda/segments.cuh"

namespace terroir::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kElements = kVectorElements<float>;  // of each tensor that a thread handles at once
constexpr int kVectorsPerThread = 4;
constexpr std::int64_t kChunk = std::int64_t{kThreads} * kElements * kVectorsPerThread;

struct Segment {
  float* params;
  const float* grads;
  float *exp_avg, *exp_avg_sq;
  __nv_bfloat16* params_bf16;  // or null
  const StepScalars* scalars;
  std::int64_t n;
  double weight_decay;
  float one_minus_beta1, beta2, one_minus_beta2, eps;
  unsigned first_chunk;
  bool vectors;  // all pointers allow access to kElements at once
};

// The step's constants, rounded as in adamw_cpu.cc.
struct Factors {
  float grad_scale, one_minus_beta1, beta2, one_minus_beta2, eps, decay, step, root_scale;
};

__device__ __forceinline__ Factors make_factors(const Segment& segment, const StepScalars& scalars) {
  return {scalars.grad_scale,
          segment.one_minus_beta1,
          segment.beta2,
          segment.one_minus_beta2,
          segment.eps,
          static_cast<float>(1 - static_cast<double>(scalars.learning_rate) * segment.weight_decay),
          scalars.learning_rate / scalars.bias_correction1,
          1 / sqrtf(scalars.bias_correction2)};
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

__device__ __forceinline__ void update_vector(const Segment& segment, const Factors& factors,
                                              std::int64_t at) {
  auto p = load_vector(segment.params + at), m = load_vector(segment.exp_avg + at),
       v = load_vector(segment.exp_avg_sq + at);
  const auto g = load_vector(segment.grads + at);
  __nv_bfloat16 rounded[kElements];
#pragma unroll
  for (int i = 0; i < kElements; ++i) {
    update(p.v[i], g.v[i], m.v[i], v.v[i], factors);
    rounded[i] = from_float<__nv_bfloat16>(p.v[i]);
  }
  store_vector(segment.exp_avg + at, m);
  store_vector(segment.exp_avg_sq + at, v);
  store_vector(segment.params + at, p);
  if (segment.params_bf16 == nullptr) return;
  std::uint64_t together;  // a Vector of four bf16 becomes four stores (nvcc 13.0)
  static_assert(sizeof(together) == sizeof(rounded));
  memcpy(&together, rounded, sizeof(together));
  *reinterpret_cast<std::uint64_t*>(segment.params_bf16 + at) = together;
}

__device__ __forceinline__ void update_elements(const Segment& segment, const Factors& factors,
                                                std::int64_t begin, std::int64_t end) {
  for (std::int64_t at = begin; at < end; ++at) {
    float p = segment.params[at], m = segment.exp_avg[at], v = segment.exp_avg_sq[at];
    update(p, segment.grads[at], m, v, factors);
    segment.exp_avg[at] = m;
    segment.exp_avg_sq[at] = v;
    segment.params[at] = p;
    if (segment.params_bf16 != nullptr) segment.params_bf16[at] = from_float<__nv_bfloat16>(p);
  }
}

// One chunk per block. Five blocks per SM: 80 KB of loads on their way.
__global__ void __launch_bounds__(kThreads, 5) adamw_kernel(const Segments<Segment> segments) {
  const int index = segments.index_of(blockIdx.x);
  const Segment& segment = segments.all[index];
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

Segment make_segment(const AdamWArgs& args) {
  Segment segment = {};
  segment.params = static_cast<float*>(args.params.raw());
  segment.grads = static_cast<const float*>(args.grads.raw());
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
  segment.vectors = is_vectorizable(segment.params, 0) && is_vectorizable(segment.grads, 0) &&
                    is_vectorizable(segment.exp_avg, 0) && is_vectorizable(segment.exp_avg_sq, 0) &&
                    reinterpret_cast<std::uintptr_t>(segment.params_bf16) % (2 * kElements) == 0;
  return segment;
}

}  // namespace

void adamw(OpContext& ctx, const std::span<const AdamWArgs>& list) {
  for_each_list<Segment>(
      list.size(), kChunk, [&](std::size_t i) { return make_segment(list[i]); },
      [&](const Segments<Segment>& segments) {
        launch(adamw_kernel, dim3(segments.num_chunks), dim3(kThreads), 0, native_stream(ctx), segments);
      });
}

}  // namespace terroir::cuda
