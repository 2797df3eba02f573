// Sums of token losses by source: what metrics and the mean loss are made of.
#pragma once

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

// B sequences of S tokens each, T = B S; V ids; N sources. All contiguous.
struct LossSumsArgs {
  ConstView loss;         // f32 [T], nats
  ConstView targets;      // i32 [T], < V; a negative one does not count
  ConstView source;       // i32 [B], < N
  ConstView token_bytes;  // i32 [V]: bytes of text that each id stands for
  View sums;              // f64 [3, N], added to: nats, targets that count, their bytes
};
// Each sequence is summed in the order of its tokens, in f64, and sequences are added in their order: the
// same bits on every run and device. Throws ContractError on wrong shapes, dtypes or devices, before anything
// is written.
void loss_sums(OpContext& ctx, const LossSumsArgs& args);

namespace cpu {
void loss_sums(OpContext& ctx, const LossSumsArgs& args);
}

}  // namespace terroir
