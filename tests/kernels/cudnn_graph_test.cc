// Graphs are described and accepted by cuDNN without a GPU; whether there is a kernel for them, only a GPU
// tells.
#include "kernels/attention/cudnn_graph.h"

#include <gmock/gmock.h>

namespace terroir::cuda {
namespace {

struct Case {
  const char* name;
  std::int64_t num_q_heads, num_kv_heads, head_size;
  bool packed, fused;
};

// A packed or dense micro-batch of 2 rows of 512 tokens. Fused: q, k and v (and their gradients) are columns
// of one matrix.
CudnnAttentionSpec spec_of(const Case& c, bool backward) {
  constexpr std::int64_t kRows = 2, kLength = 512, kDocuments = 8;
  CudnnAttentionSpec spec = {.backward = backward,
                             .deterministic = !c.packed,
                             .packed = c.packed,
                             .num_sequences = c.packed ? kDocuments : kRows,
                             .length = kLength,
                             .total_tokens = kRows * kLength,
                             .num_q_heads = c.num_q_heads,
                             .num_kv_heads = c.num_kv_heads,
                             .head_size = c.head_size,
                             .scale = 0.125F};
  const std::int64_t q_row = c.num_q_heads * c.head_size, kv_row = c.num_kv_heads * c.head_size;
  const auto strides = [&](std::int64_t token) {
    return OperandStrides{kLength * token, token, c.head_size};
  };
  const auto set = [&](CudnnOperand operand, OperandStrides s) {
    spec.strides[static_cast<std::size_t>(operand)] = s;
  };
  const std::int64_t fused = q_row + 2 * kv_row;
  for (const auto operand : {CudnnOperand::kQ, CudnnOperand::kDq})
    set(operand, strides(c.fused ? fused : q_row));
  for (const auto operand : {CudnnOperand::kK, CudnnOperand::kV, CudnnOperand::kDk, CudnnOperand::kDv})
    set(operand, strides(c.fused ? fused : kv_row));
  for (const auto operand : {CudnnOperand::kO, CudnnOperand::kDout}) set(operand, strides(q_row));
  set(CudnnOperand::kLse, c.packed ? OperandStrides{kLength * c.num_q_heads, c.num_q_heads, 1}
                                   : OperandStrides{c.num_q_heads * kLength, 1, kLength});
  return spec;
}

class CudnnGraphOf : public testing::TestWithParam<Case> {};

TEST_P(CudnnGraphOf, IsAcceptedOnHopper) {
  EXPECT_EQ(cudnn_graph_problem(spec_of(GetParam(), false), 90), "");
  EXPECT_EQ(cudnn_graph_problem(spec_of(GetParam(), true), 90), "");
}

TEST_P(CudnnGraphOf, IsAcceptedOnAmpereButForTheBackwardOfPackedDocuments) {
  EXPECT_EQ(cudnn_graph_problem(spec_of(GetParam(), false), 80), "");
  const std::string problem = cudnn_graph_problem(spec_of(GetParam(), true), 80);
  EXPECT_EQ(problem.empty(), !GetParam().packed)
      << problem;  // "Packed/ragged LSE is not supported for bprop"
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudnnGraphOf,
                         testing::Values(Case{"Dense64", 4, 4, 64, false, false},
                                         Case{"Dense128Grouped", 8, 2, 128, false, false},
                                         Case{"Dense64GroupedFused", 6, 2, 64, false, true},
                                         Case{"Packed64", 4, 4, 64, true, false},
                                         Case{"Packed128Grouped", 8, 2, 128, true, false},
                                         Case{"Packed64GroupedFused", 6, 2, 64, true, true}),
                         [](const auto& info) { return info.param.name; });

TEST(CudnnGraph, SaysWhatIsWrong) {
  CudnnAttentionSpec odd_head = spec_of({"", 4, 4, 60, false, false}, false);
  EXPECT_THAT(cudnn_graph_problem(odd_head, 90), testing::HasSubstr("multiple"));
  CudnnAttentionSpec uneven_groups = spec_of({"", 5, 2, 64, false, false}, false);
  EXPECT_THAT(cudnn_graph_problem(uneven_groups, 90), testing::HasSubstr("heads"));
}

TEST(CudnnGraph, SpecsThatDifferAreDifferentPlans) {
  const CudnnAttentionSpec one = spec_of({"", 4, 4, 64, false, false}, true);
  CudnnAttentionSpec other = one;
  EXPECT_EQ(one, other);
  other.strides[static_cast<std::size_t>(CudnnOperand::kDv)].token += 64;
  EXPECT_NE(one, other);
  other = one;
  other.deterministic = false;
  EXPECT_NE(one, other);
}

}  // namespace
}  // namespace terroir::cuda
