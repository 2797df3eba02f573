// What a token costs, and what the machine could do: the two sides of MFU.
#pragma once

#include "kernels/tensor/op_context.h"
#include "parallel/communicator.h"
#include "trainer/config/model_config.h"

namespace terroir {

// Which pairs of tokens count in attention: those that a token sees, or all, as in PaLM (appendix B) and many
// figures that others publish.
enum class AttentionPairs : std::uint8_t { kCausal, kAll };

// Floating-point operations of forward and backward per trained token: 6 for each weight of a matrix
// multiplication (the output head included, the embedding look-up not), plus attention: 12 * layers *
// query_size * sequence_length for all pairs, half of that for causal ones. Recomputation does not count.
double flops_per_token(const ModelConfig& config, std::int64_t sequence_length,
                       AttentionPairs pairs = AttentionPairs::kCausal);

// Measured matrix-multiplication rate of all ranks together, FLOP/s: the peak that MFU refers to. Every rank
// multiplies square matrices of `dtype` at the same time, so that ranks that share cores or a GPU count once,
// for four times a twentieth of a second; the best of the four counts. The matrices are 1024 wide on a CPU;
// on a GPU up to 8192, as far as one product takes less than a millisecond. Collective.
double measure_peak_flops(OpContext& ctx, DType dtype, Communicator& control);

}  // namespace terroir
