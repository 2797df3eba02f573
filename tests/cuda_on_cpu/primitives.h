#pragma once

#include "kernels/tensor/op_context.h"

namespace terroir::cuda {

// d [16, 8] = a [16, 16] b [16, 8]: bf16 row-major, f32, with tensor-core instructions.
void tile_product(const Stream& stream, const void* a, const void* b, float* d);
// out [7, threads]: see the kernel.
void exchanges(const Stream& stream, int threads, int* out);

}  // namespace terroir::cuda
