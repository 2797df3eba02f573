// The ops a device offers, as a table of plain function pointers: what an op's public function calls after
// its checks.
//
// To add an op `foo`: declare `FooArgs`, `foo()` and `cpu::foo()` in kernels/foo/foo.h, add one pointer here
// and one line in op_table.cc. A backend function gets checked arguments and must not check them again.
#pragma once

#include <span>

#include "kernels/tensor/view.h"

namespace terroir {

struct OpContext;
struct AdamWArgs;
struct AddArgs;
struct AttentionBackwardArgs;
struct AttentionForwardArgs;
struct AttentionKernels;
struct AttentionMergeArgs;
struct CopyArgs;
struct EmbeddingBackwardArgs;
struct EmbeddingForwardArgs;
struct FillArgs;
struct LinearCrossEntropyArgs;
struct LossSumsArgs;
struct MatmulArgs;
struct MergeVocabStatisticsArgs;
struct QkNormRopeBackwardArgs;
struct QkNormRopeForwardArgs;
struct RmsNormBackwardArgs;
struct RmsNormForwardArgs;
struct RopeArgs;
struct ScaleArgs;
struct SquaredNormArgs;
struct StepScalarsArgs;
struct SwigluBackwardArgs;
struct SwigluForwardArgs;

template <class Args>
using OpFunction = void (*)(OpContext&, const Args&);
// Bytes; see attention_workspace_bytes().
template <class Args>
using AttentionWorkspaceFunction = std::int64_t (*)(OpContext&, const Args&, AttentionKernels*);

struct OpTable {
  OpFunction<CopyArgs> copy;
  OpFunction<CopyArgs> cast;
  OpFunction<AddArgs> add;
  OpFunction<ScaleArgs> scale;
  OpFunction<FillArgs> fill;
  OpFunction<MatmulArgs> matmul;
  OpFunction<AttentionForwardArgs> attention_forward;
  OpFunction<AttentionBackwardArgs> attention_backward;
  OpFunction<AttentionMergeArgs> attention_merge;
  AttentionWorkspaceFunction<AttentionForwardArgs> attention_forward_workspace;
  AttentionWorkspaceFunction<AttentionBackwardArgs> attention_backward_workspace;
  OpFunction<LinearCrossEntropyArgs> linear_cross_entropy;
  OpFunction<MergeVocabStatisticsArgs> merge_vocab_statistics;
  OpFunction<EmbeddingForwardArgs> embedding_forward;
  OpFunction<EmbeddingBackwardArgs> embedding_backward;
  OpFunction<RmsNormForwardArgs> rms_norm_forward;
  OpFunction<RmsNormBackwardArgs> rms_norm_backward;
  OpFunction<QkNormRopeForwardArgs> qk_norm_rope_forward;
  OpFunction<QkNormRopeBackwardArgs> qk_norm_rope_backward;
  OpFunction<RopeArgs> rope_apply;
  OpFunction<SwigluForwardArgs> swiglu_forward;
  OpFunction<SwigluBackwardArgs> swiglu_backward;
  OpFunction<std::span<const AdamWArgs>> adamw;
  OpFunction<SquaredNormArgs> squared_norm;
  OpFunction<LossSumsArgs> loss_sums;
  OpFunction<StepScalarsArgs> step_scalars;
};

// The backend of `device`. Throws SystemError if it is a CUDA device and no CUDA module is loaded.
const OpTable& op_table(Device device);

}  // namespace terroir
