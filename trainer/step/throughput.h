// What a token costs, and what the machine could do: the two sides of MFU.
#pragma once

#include "kernels/tensor/op_context.h"
#include "parallel/communicator.h"
#include "trainer/config/model_config.h"

namespace terroir {

// Floating-point operations of forward and backward per trained token: 6 for each weight of a matrix
// multiplication (the output head included, the embedding look-up not), plus attention: 6 * layers *
// query_size * sequence_length, the causal half of 12 (docs: PaLM appendix B counts both halves).
// Recomputation does not count.
double flops_per_token(const ModelConfig& config, std::int64_t sequence_length);

// Measured matrix-multiplication rate of all ranks together, FLOP/s: the peak that MFU refers to. Every rank
// multiplies square matrices of `dtype` at the same time, so that ranks that share cores or a GPU count once,
// for four times a twentieth of a second; the best of the four counts. The matrices are 1024 wide on a CPU;
// on a GPU up to 8192, as far as one product takes less than a millisecond. Collective.
double measure_peak_flops(OpContext& ctx, DType dtype, Communicator& control);

}  // namespace terroir
