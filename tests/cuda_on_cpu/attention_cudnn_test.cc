// What lies around cuDNN: strides, rows, document tables, the layout of lse, and what is refused. cuDNN
// itself is played by plain_cudnn_graph.cc.
#include "kernels/attention/attention_cudnn.h"

#include <gmock/gmock.h>

#include <cmath>

#include "kernels/attention/cudnn_layout.h"
#include "kernels/cuda/runtime.h"
#include "tests/kernels/test_tensor.h"

namespace terroir::cuda {
namespace {

using test::IntTensor;
using test::Tensor;
using test::Workspace;
using testing::HasSubstr;

constexpr double kOneRounding = 1.0 / 256;  // of bf16
constexpr std::int64_t kRows = 3, kLength = 12, kHeads = 4, kKvHeads = 2, kHeadSize = 8;
constexpr std::int64_t kQueryColumns = kHeads * kHeadSize, kColumns = (kHeads + 2 * kKvHeads) * kHeadSize;

std::vector<float> floats(const ConstView& view) {
  const std::vector<double> values = test::values(view);
  return {values.begin(), values.end()};
}

// A fused q, k, v matrix as an attention sees it.
struct Fused {
  explicit Fused(DType dtype) : matrix({kRows, kLength, kColumns}, 0, dtype) {}
  View heads(std::int64_t begin, std::int64_t count) const {
    return matrix.view().slice(2, begin, begin + count * kHeadSize).split(2, kHeadSize);
  }
  View q() const { return heads(0, kHeads); }
  View k() const { return heads(kQueryColumns, kKvHeads); }
  View v() const { return heads(kQueryColumns + kKvHeads * kHeadSize, kKvHeads); }
  Tensor matrix;
};

struct Outputs {
  explicit Outputs(DType dtype)
      : o({kRows, kLength, kHeads, kHeadSize}, 0, dtype), lse({kRows, kHeads, kLength}), gradient(dtype) {}
  Tensor o, lse;
  Fused gradient;
};

class AttentionCudnn : public testing::Test {
 protected:
  AttentionCudnn() : qkv_(DType::kBF16), dout_({kRows, kLength, kHeads, kHeadSize}, 0, DType::kBF16) {
    qkv_.matrix.randomize(1);
    dout_.randomize(2);
    ctx_.stream = Stream({DeviceKind::kCuda, 0}, runtime_.create_stream(0));
  }
  ~AttentionCudnn() override { runtime_.destroy_stream(ctx_.stream.native()); }

  // Documents of these lengths, one after another in all rows.
  void pack(const std::vector<int>& lengths) {
    std::vector<std::int32_t> positions, documents;
    for (std::size_t d = 0; d < lengths.size(); ++d)
      for (int i = 0; i < lengths[d]; ++i) {
        positions.push_back(i);
        documents.push_back(static_cast<std::int32_t>(d));
      }
    positions_.emplace(test::Shape{kRows, kLength}, positions);
    documents_.emplace(test::Shape{kRows, kLength}, documents);
  }
  AttentionInputs inputs(const Fused& qkv) const {
    return {.q = qkv.q(),
            .k = qkv.k(),
            .v = qkv.v(),
            .positions_q = *positions_,
            .positions_k = *positions_,
            .documents_q = *documents_,
            .documents_k = *documents_,
            .options = {.scale = 0.35F, .q_heads_per_kv = kHeads / kKvHeads},
            .known_documents = known_};
  }
  AttentionForwardArgs forward_args(const Outputs& out) const { return {inputs(qkv_), out.o, out.lse}; }
  AttentionBackwardArgs backward_args(const Outputs& out) const {
    return {inputs(qkv_),     out.o, out.lse, dout_.view(), out.gradient.q(), out.gradient.k(),
            out.gradient.v(), {}};
  }

  // Both backends on the same numbers.
  void expect_as_on_the_cpu(const CudnnAttentionOptions& options) {
    const Outputs got(DType::kBF16), wanted(DType::kF32);
    std::string reason;
    ASSERT_TRUE(cudnn_attention_supports(ctx_, forward_args(got), options, &reason)) << reason;
    ASSERT_TRUE(cudnn_attention_supports(ctx_, backward_args(got), options, &reason)) << reason;
    const Workspace workspace(1 +
                              std::max(cudnn_attention_workspace_bytes(ctx_, forward_args(got), options),
                                       cudnn_attention_workspace_bytes(ctx_, backward_args(got), options)));
    AttentionForwardArgs forward = forward_args(got);
    AttentionBackwardArgs backward = backward_args(got);
    forward.workspace = backward.workspace = workspace;
    attention_forward_cudnn(ctx_, forward, options);
    attention_backward_cudnn(ctx_, backward, options);
    runtime_.synchronize_stream(ctx_.stream.native());

    Fused qkv(DType::kF32);
    qkv.matrix.assign(floats(qkv_.matrix));
    Tensor dout({kRows, kLength, kHeads, kHeadSize});
    dout.assign(floats(dout_));
    OpContext cpu;
    terroir::attention_forward(cpu, {inputs(qkv), wanted.o, wanted.lse});
    const std::vector<float> zeros(static_cast<std::size_t>(kRows * kLength * kColumns));
    Fused gradient(DType::kF32);
    gradient.matrix.assign(zeros);
    const Workspace cpu_workspace(1 << 20);
    terroir::attention_backward(cpu, {inputs(qkv), wanted.o, wanted.lse, dout.view(), gradient.q(),
                                      gradient.k(), gradient.v(), cpu_workspace});
    test::expect_close(got.o, test::values(wanted.o), kOneRounding, "o");
    test::expect_close(got.lse, test::values(wanted.lse), 1e-5, "lse");
    test::expect_close(got.gradient.matrix, test::values(gradient.matrix), 2 * kOneRounding, "dq, dk, dv");
  }
  std::string refusal(const AttentionForwardArgs& args) {
    std::string reason;
    EXPECT_FALSE(cudnn_attention_supports(ctx_, args, {}, &reason));
    return reason;
  }

  Runtime runtime_;
  OpContext ctx_;
  Fused qkv_;
  Tensor dout_;
  std::optional<IntTensor> positions_, documents_;
  AttentionDocuments known_ = {.one_per_row = true, .starts = {}};
};

TEST_F(AttentionCudnn, RowsOfOneDocumentEqualTheCpu) {
  pack({kLength, kLength, kLength});
  expect_as_on_the_cpu({});
  expect_as_on_the_cpu({.deterministic = false});
}

TEST_F(AttentionCudnn, PackedDocumentsEqualTheCpu) {
  pack({5, 7, 12, 1, 2, 9});
  const IntTensor starts({9}, {0, 5, 12, 24, 25, 27, 36, 36, 36});  // room for 8
  known_ = {.starts = starts};
  expect_as_on_the_cpu({});
}

TEST_F(AttentionCudnn, DeterministicBackwardTakesTheSpaceOfOneRow) {
  pack({kLength, kLength, kLength});
  const Outputs out(DType::kBF16);
  std::string reason;
  ASSERT_TRUE(cudnn_attention_supports(ctx_, backward_args(out), {}, &reason)) << reason;
  EXPECT_EQ(cudnn_attention_workspace_bytes(ctx_, backward_args(out), {}), kHeads * kLength * kLength * 2);
  CudnnAttentionOptions limited;
  limited.max_workspace_bytes = kHeads * kLength * kLength * 2 - 1;
  EXPECT_FALSE(cudnn_attention_supports(ctx_, backward_args(out), limited, &reason));
  EXPECT_THAT(reason, HasSubstr("workspace"));
}

TEST_F(AttentionCudnn, RefusesWhatItCannotKnowOrCompute) {
  pack({kLength, kLength, kLength});
  const Outputs out(DType::kBF16);
  const AttentionForwardArgs good = forward_args(out);
  AttentionForwardArgs args = good;
  args.inputs.known_documents = {};
  EXPECT_THAT(refusal(args), HasSubstr("not known to the host"));
  const Fused in_f32(DType::kF32);
  args.inputs = inputs(in_f32);
  EXPECT_THAT(refusal(args), HasSubstr("bf16"));
  args = good;
  args.inputs.k = good.inputs.k.slice(1, 0, 5);
  args.inputs.v = good.inputs.v.slice(1, 0, 5);
  EXPECT_THAT(refusal(args), HasSubstr("keys"));
  args = good;
  args.inputs.options.q_head_offset = 1;
  EXPECT_THAT(refusal(args), HasSubstr("group"));
  args = good;
  const Tensor odd({kRows, kLength, kHeads, kHeadSize}, 4, DType::kBF16);
  args.o = odd;
  EXPECT_THAT(refusal(args), HasSubstr("aligned"));
  const Tensor with_gaps({kRows, kLength + 1, kHeads, kHeadSize}, 0, DType::kBF16);
  args.o = with_gaps.view().slice(1, 0, kLength);
  const IntTensor starts({4}, {0, 12, 24, 36});
  args.inputs.known_documents = {.starts = starts};
  EXPECT_THAT(refusal(args), HasSubstr("gap"));
}

TEST_F(AttentionCudnn, TransposesOddSizes) {
  constexpr std::int64_t kMatrices = 2, kFrom = 37, kTo = 70;
  Tensor from({kMatrices, kFrom, kTo}), to({kMatrices, kTo, kFrom});
  from.randomize(5);
  transpose(ctx_, from.view().data<float>(), to.view().data<float>(), kMatrices, kFrom, kTo);
  runtime_.synchronize_stream(ctx_.stream.native());
  const auto before = test::values(from), after = test::values(to);
  for (std::int64_t m = 0; m < kMatrices; ++m)
    for (std::int64_t i = 0; i < kFrom; ++i)
      for (std::int64_t j = 0; j < kTo; ++j)
        ASSERT_EQ(after[static_cast<std::size_t>((m * kTo + j) * kFrom + i)],
                  before[static_cast<std::size_t>((m * kFrom + i) * kTo + j)]);
}

}  // namespace
}  // namespace terroir::cuda
