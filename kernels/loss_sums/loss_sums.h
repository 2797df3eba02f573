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
// Sums in f64, in a fixed order: the same bits on every run. On the CPU each sequence is summed in the order
// of its tokens and sequences are added in theirs; on CUDA the order is another one. Throws ContractError on
// wrong shapes, dtypes or devices, before anything is written.
void loss_sums(OpContext& ctx, const LossSumsArgs& args);

namespace cpu {
void loss_sums(OpContext& ctx, const LossSumsArgs& args);
}
namespace cuda {
void loss_sums(OpContext& ctx, const LossSumsArgs& args);
}

}  // namespace terroir
