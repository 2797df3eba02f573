// Two stages: every block sums chunks of all tensors into one partial sum, one block adds these up. f64
// throughout: at 4 bytes per element a GPU has time for it.
#include <algorithm>
#include <cfloat>

#include "kernels/cuda/segments.cuh"
#include "kernels/squared_norm/squared_norm.h"

namespace terroir::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kElements = kVectorElements<float>;
constexpr int kVectorsPerThread = 8;
constexpr int kInFlight = 4;  // loads before their first use
constexpr std::int64_t kStride = std::int64_t{kThreads} * kElements;
constexpr std::int64_t kChunk = kStride * kVectorsPerThread;
constexpr int kFinalThreads = 1024;

struct Segment {
  const float* x;
  std::int64_t n;
  unsigned first_chunk;
  bool vectors;
};

__device__ __forceinline__ void add_square(double& sum, float value) {
  const double wide = value;
  sum = fma(wide, wide, sum);
}

// A whole chunk; `x` is this thread's first element.
__device__ __forceinline__ void add_chunk(double (&sums)[kElements], const float* x) {
#pragma unroll
  for (int i = 0; i < kVectorsPerThread; i += kInFlight) {
    Vector<float, kElements> values[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) values[j] = load_vector(x + (i + j) * kStride);
#pragma unroll
    for (int j = 0; j < kInFlight; ++j)
#pragma unroll
      for (int e = 0; e < kElements; ++e) add_square(sums[e], values[j].v[e]);
  }
}

// The same of a chunk that is cut off or not aligned, in the same order: alignment changes no bit.
__device__ __forceinline__ void add_elements(double (&sums)[kElements], const float* x, std::int64_t begin,
                                             std::int64_t end) {
  for (int i = 0; i < kVectorsPerThread && begin < end; ++i, begin += kStride) {
#pragma unroll
    for (int e = 0; e < kElements; ++e)
      if (begin + e < end) add_square(sums[e], x[begin + e]);
  }
}

__global__ void __launch_bounds__(kThreads, 6)
    sum_chunks_kernel(const Segments<Segment> segments, double* partials) {
  __shared__ double scratch[kWarpSize];
  double sums[kElements] = {};
  for (unsigned chunk = blockIdx.x; chunk < segments.num_chunks; chunk += gridDim.x) {
    const Segment& segment = segments.all[segments.index_of(chunk)];
    const std::int64_t begin = static_cast<std::int64_t>(chunk - segment.first_chunk) * kChunk;
    const std::int64_t mine = begin + std::int64_t{threadIdx.x} * kElements;
    if (segment.vectors && begin + kChunk <= segment.n) {
      add_chunk(sums, segment.x + mine);
    } else {
      add_elements(sums, segment.x, mine, segment.n);
    }
  }
  const double sum = block_sum((sums[0] + sums[1]) + (sums[2] + sums[3]), scratch);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kFinalThreads)
    add_partials_kernel(const double* partials, int count, double* out, std::int32_t* nonfinite) {
  __shared__ double scratch[kWarpSize];
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += kFinalThreads) sum += partials[i];
  sum = block_sum(sum, scratch);
  if (threadIdx.x != 0) return;
  *out += sum;
  if (nonfinite != nullptr && !(fabs(sum) <= DBL_MAX)) *nonfinite = 1;
}

Segment make_segment(const ConstView& x) {
  Segment segment = {};
  segment.x = static_cast<const float*>(x.raw());
  segment.n = x.numel();
  segment.vectors = is_vectorizable(segment.x, 0);
  return segment;
}

}  // namespace

void squared_norm(OpContext& ctx, const SquaredNormArgs& args) {
  auto* partials = static_cast<double*>(args.workspace.raw());
  for_each_list<Segment>(
      args.x.size(), kChunk, [&](std::size_t i) { return make_segment(args.x[i]); },
      [&](const Segments<Segment>& segments) {
        const auto blocks =
            static_cast<unsigned>(std::min<std::int64_t>(segments.num_chunks, kSquaredNormPartials));
        launch(sum_chunks_kernel, dim3(blocks), dim3(kThreads), 0, native_stream(ctx), segments, partials);
        launch(add_partials_kernel, dim3(1), dim3(kFinalThreads), 0, native_stream(ctx), partials,
               static_cast<int>(blocks), static_cast<double*>(args.out.raw()),
               static_cast<std::int32_t*>(args.nonfinite.raw()));
      });
}

}  // namespace terroir::cuda
