// One block per source, which walks the sequences of that source and writes nothing else: no atomics, no
// second stage.
#include "kernels/cuda/device.cuh"
#include "kernels/loss_sums/loss_sums.h"

namespace terroir::cuda {
namespace {

constexpr int kThreads = 1024;

struct Batch {
  const float* loss;
  const std::int32_t *targets, *source, *token_bytes;
  std::int64_t sequences, length;
};

__global__ void __launch_bounds__(kThreads) loss_sums_kernel(const Batch batch, double* sums) {
  __shared__ double scratch[kWarpSize];
  double nats = 0, tokens = 0, bytes = 0;
  for (std::int64_t sequence = 0; sequence < batch.sequences; ++sequence) {
    if (batch.source[sequence] != static_cast<std::int32_t>(blockIdx.x)) continue;
    const std::int64_t end = (sequence + 1) * batch.length;
#pragma unroll 4
    for (std::int64_t t = sequence * batch.length + threadIdx.x; t < end; t += kThreads) {
      const std::int32_t target = batch.targets[t];
      if (target < 0) continue;
      nats += batch.loss[t];
      tokens += 1;
      bytes += batch.token_bytes[target];
    }
  }
  nats = block_sum(nats, scratch);
  tokens = block_sum(tokens, scratch);
  bytes = block_sum(bytes, scratch);
  if (threadIdx.x != 0) return;
  sums[blockIdx.x] += nats;
  sums[gridDim.x + blockIdx.x] += tokens;
  sums[2 * gridDim.x + blockIdx.x] += bytes;
}

template <class T>
const T* pointer(const ConstView& view) {
  return static_cast<const T*>(view.raw());
}

}  // namespace

void loss_sums(OpContext& ctx, const LossSumsArgs& args) {
  const std::int64_t sequences = args.source.size(0);
  const Batch batch = {pointer<float>(args.loss),
                       pointer<std::int32_t>(args.targets),
                       pointer<std::int32_t>(args.source),
                       pointer<std::int32_t>(args.token_bytes),
                       sequences,
                       args.loss.size(0) / sequences};
  launch(loss_sums_kernel, dim3(static_cast<unsigned>(args.sums.size(1))), dim3(kThreads), 0,
         native_stream(ctx), batch, static_cast<double*>(args.sums.raw()));
}

}  // namespace terroir::cuda
