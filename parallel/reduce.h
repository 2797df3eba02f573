// Sums and maxima over the ranks' contributions, on this rank.
#pragma once

#include <span>

#include "parallel/communicator.h"

namespace terroir {

// out[i] = sources[0][i] (op) sources[1][i] (op) ..., in this order; f32 and bf16 accumulated in f32 and
// rounded once, others in their own type (integers wrap). A NaN anywhere gives NaN, for the maximum too.
// `out` may be one of the sources. REQUIRES: dtype is not u8.
void reduce(DType dtype, ReduceOp op, std::span<const void* const> sources, std::int64_t n, void* out);

}  // namespace terroir
