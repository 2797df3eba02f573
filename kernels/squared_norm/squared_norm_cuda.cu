// Two stages: every block sums chunks of all tensors into one partial sum, one block adds these up. f64
// throughout: at 4 bytes per element a GPU has time for it.
#include <algorithm>
#include <cfloat>

#include "kernels/cuda/segments.cuh"
#include "kernels/squared_norm/squared_norm.h"

namespace terroir::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVectorsPerThread = 8;
constexpr int kInFlight = 4;  // loads before their first use
constexpr int kSums = 4;      // of a thread, that are added at the end
template <class T>
constexpr std::int64_t kStride = std::int64_t{kThreads} * kVectorElements<T>;
template <class T>
constexpr std::int64_t kChunk = kStride<T>* kVectorsPerThread;
constexpr int kFinalThreads = 1024;

template <class T>
struct Segment {
  const T* x;
  std::int64_t n;
  unsigned first_chunk;
  bool vectors;
};

template <class T>
__device__ __forceinline__ void add_square(double& sum, T value) {
  const double wide = to_float(value);
  sum = fma(wide, wide, sum);
}

// A whole chunk; `x` is this thread's first element.
template <class T>
__device__ __forceinline__ void add_chunk(double (&sums)[kSums], const T* x) {
#pragma unroll
  for (int i = 0; i < kVectorsPerThread; i += kInFlight) {
    Vector<T, kVectorElements<T>> values[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) values[j] = load_vector(x + (i + j) * kStride<T>);
#pragma unroll
    for (int j = 0; j < kInFlight; ++j)
#pragma unroll
      for (int e = 0; e < kVectorElements<T>; ++e) add_square(sums[e % kSums], values[j].v[e]);
  }
}

// The same of a chunk that is cut off or not aligned, in the same order: alignment changes no bit.
template <class T>
__device__ __forceinline__ void add_elements(double (&sums)[kSums], const T* x, std::int64_t begin,
                                             std::int64_t end) {
  for (int i = 0; i < kVectorsPerThread && begin < end; ++i, begin += kStride<T>) {
#pragma unroll
    for (int e = 0; e < kVectorElements<T>; ++e)
      if (begin + e < end) add_square(sums[e % kSums], x[begin + e]);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 6)
    sum_chunks_kernel(const Segments<Segment<T>> segments, double* partials) {
  __shared__ double scratch[kWarpSize];
  double sums[kSums] = {};
  for (unsigned chunk = blockIdx.x; chunk < segments.num_chunks; chunk += gridDim.x) {
    const Segment<T>& segment = segments.all[segments.index_of(chunk)];
    const std::int64_t begin = static_cast<std::int64_t>(chunk - segment.first_chunk) * kChunk<T>;
    const std::int64_t mine = begin + std::int64_t{threadIdx.x} * kVectorElements<T>;
    if (segment.vectors && begin + kChunk<T> <= segment.n) {
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

template <class T>
Segment<T> make_segment(const ConstView& x) {
  Segment<T> segment = {};
  segment.x = static_cast<const T*>(x.raw());
  segment.n = x.numel();
  segment.vectors = is_vectorizable(segment.x, 0);
  return segment;
}

// Of those of the list that are of this dtype.
template <class T>
void add_squares(OpContext& ctx, const SquaredNormArgs& args, DType dtype) {
  auto* partials = static_cast<double*>(args.workspace.raw());
  for_each_list<Segment<T>>(
      args.x.size(), kChunk<T>,
      [&](std::size_t i) { return args.x[i].dtype() == dtype ? make_segment<T>(args.x[i]) : Segment<T>{}; },
      [&](const Segments<Segment<T>>& segments) {
        const auto blocks =
            static_cast<unsigned>(std::min<std::int64_t>(segments.num_chunks, kSquaredNormPartials));
        launch(sum_chunks_kernel<T>, dim3(blocks), dim3(kThreads), 0, native_stream(ctx), segments, partials);
        launch(add_partials_kernel, dim3(1), dim3(kFinalThreads), 0, native_stream(ctx), partials,
               static_cast<int>(blocks), static_cast<double*>(args.out.raw()),
               static_cast<std::int32_t*>(args.nonfinite.raw()));
      });
}

}  // namespace

void squared_norm(OpContext& ctx, const SquaredNormArgs& args) {
  add_squares<float>(ctx, args, DType::kF32);
  add_squares<__nv_bfloat16>(ctx, args, DType::kBF16);
}

}  // namespace terroir::cuda
