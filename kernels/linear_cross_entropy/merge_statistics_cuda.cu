#include <cmath>

#include "kernels/cuda/device.cuh"
#include "kernels/linear_cross_entropy/linear_cross_entropy.h"

namespace terroir::cuda {
namespace {

constexpr int kThreads = 256;

// One token a thread. gathered [ranks, 3, n].
__global__ void __launch_bounds__(kThreads)
    merge_statistics_kernel(const float* gathered, std::int64_t num_ranks, std::int64_t n, float* merged) {
  const std::int64_t token = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (token >= n) return;
  float max = -INFINITY, target = -INFINITY, sum = 0;
  for (std::int64_t rank = 0; rank < num_ranks; ++rank) {
    max = fmaxf(max, gathered[(rank * 3 + 0) * n + token]);
    target = fmaxf(target, gathered[(rank * 3 + 2) * n + token]);
  }
  for (std::int64_t rank = 0; rank < num_ranks; ++rank)
    sum = fmaf(gathered[(rank * 3 + 1) * n + token], expf(gathered[(rank * 3 + 0) * n + token] - max), sum);
  merged[token] = max;
  merged[n + token] = sum;
  merged[2 * n + token] = target;
}

}  // namespace

void merge_vocab_statistics(OpContext& ctx, const MergeVocabStatisticsArgs& args) {
  const std::int64_t n = args.merged.size(1);
  launch(merge_statistics_kernel, dim3(static_cast<unsigned>(ceil_div(n, kThreads))), dim3(kThreads), 0,
         native_stream(ctx), static_cast<const float*>(args.gathered.raw()), args.gathered.size(0), n,
         static_cast<float*>(args.merged.raw()));
}

}  // namespace terroir::cuda
