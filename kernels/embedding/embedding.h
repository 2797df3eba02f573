// Embedding look-up, whole or one tensor rank's part of the vocabulary.
//
// T tokens, H hidden size, V rows of the table held here: ids [vocab_begin, vocab_begin + V). Any other id
// belongs to another rank and counts as zero here, so that the sum over the ranks of a vocabulary split is
// the whole look-up. That an id lies inside the whole vocabulary is the loader's promise. Strides of matrices
// are free. Wrong shapes, dtypes or devices throw ContractError before anything is written.
#pragma once

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

struct EmbeddingForwardArgs {
  ConstView ids;    // i32 [T]
  ConstView table;  // f32 or bf16 [V, H]
  std::int64_t vocab_begin = 0;
  View out;  // [T, H] of the table's dtype, written: table[id - vocab_begin], or zeros for an id that is not
             // here
};
void embedding_forward(OpContext& ctx, const EmbeddingForwardArgs& args);

struct EmbeddingBackwardArgs {
  ConstView ids;   // i32 [T]
  ConstView dout;  // f32 or bf16 [T, H]
  std::int64_t vocab_begin = 0;
  View dtable;  // f32 [V, H], added to: dtable[id - vocab_begin] += dout[t]
};
// Tokens are added in their order, in f32, whatever the number of threads: the same bits on every device.
void embedding_backward(OpContext& ctx, const EmbeddingBackwardArgs& args);

namespace cpu {
void embedding_forward(OpContext& ctx, const EmbeddingForwardArgs& args);
void embedding_backward(OpContext& ctx, const EmbeddingBackwardArgs& args);
}  // namespace cpu
namespace cuda {
void embedding_forward(OpContext& ctx, const EmbeddingForwardArgs& args);
void embedding_backward(OpContext& ctx, const EmbeddingBackwardArgs& args);
}  // namespace cuda

}  // namespace terroir
