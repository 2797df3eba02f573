#pragma once

#include "kernels/tensor/op_context.h"

namespace terroir::cuda {

enum class Plant {
  kNone,
  kNoBarrier,
  kGlobalOverrun,
  kSharedOverrun,
  kMisalignedVector,
  kDivergentBarrier,
  kMissingLane,
  kAsyncCopy,
  kAsyncCopyNotAwaited,
  kOrderDependentSum,
  kTooManyThreads,
};
// Enqueues a kernel with this bug over `n` floats, a multiple of 32.
void planted(Plant plant, const Stream& stream, const float* in, float* out, int n);

}  // namespace terroir::cuda
