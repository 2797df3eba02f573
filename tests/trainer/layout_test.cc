// Every layout computes what one rank computes: losses, every gradient tensor and the updated weights.
#include <gtest/gtest.h>

#include <numeric>

#include "tests/trainer/layout_case.h"

namespace terroir::test {
namespace {

struct ThreadsCase {
  const char* name;
  int ranks;
  LayoutCase layout;
};

// Rounding of f32 sums in another order, relative to the largest element of a tensor. Measured: below 4e-6.
constexpr double kRounding = 2e-5;

class Layout : public testing::TestWithParam<ThreadsCase> {};

TEST_P(Layout, EqualsOneRank) {
  const auto& [name, ranks, layout] = GetParam();
  const Config config = make_config(layout);
  const TrainedRun reference = run_one_rank(config);
  std::int64_t elements = 0;
  for (const auto& [tensor, values] : reference.gradients[0])
    elements += static_cast<std::int64_t>(values.size());

  const Difference most = compare_on_threads(config, ranks, reference);
  EXPECT_LT(most.loss, kRounding);
  EXPECT_LT(most.grad_norm, kRounding);
  EXPECT_LT(most.gradient, kRounding) << most.worst;
  EXPECT_LT(most.weight, kRounding) << most.worst;
  // Owned once: replicas are not counted, nothing is missing.
  EXPECT_EQ(most.elements_checked, elements * kSteps);
  EXPECT_LT(reference.losses[kSteps - 1], reference.losses[0]);  // it does learn
}

INSTANTIATE_TEST_SUITE_P(
    Threads, Layout,
    testing::Values(
        ThreadsCase{"One", 1, {}}, ThreadsCase{"OneRecompute", 1, {.recompute = true}},
        ThreadsCase{"Tensor2", 2, {.tensor = 2}},
        ThreadsCase{"Tensor2WithoutSequenceParallel", 2, {.sequence_parallel = false, .tensor = 2}},
        ThreadsCase{"Tensor3FewerKeyValueHeads", 3, {.tensor = 3}},
        ThreadsCase{"Tensor3ThreeKeyValueHeads", 3, {.kv_heads = 3, .tensor = 3}},
        ThreadsCase{"Tensor2StraddlingKeyValueHeads", 2, {.kv_heads = 3, .tensor = 2}},
        ThreadsCase{"Tensor4FewerKeyValueHeadsQwen2",
                    4,
                    {.model_type = "qwen2", .heads = 8, .kv_heads = 2, .tied = false, .tensor = 4}},
        ThreadsCase{"Tensor3Qwen3WithoutSequenceParallel",
                    3,
                    {.model_type = "qwen3", .sequence_parallel = false, .tensor = 3}},
        ThreadsCase{"Pipeline2", 2, {.pipeline = 2}},
        ThreadsCase{"Pipeline2Untied", 2, {.tied = false, .pipeline = 2}},
        ThreadsCase{"Pipeline3", 3, {.pipeline = 3}},
        ThreadsCase{"Pipeline4Gpipe", 4, {.schedule = "gpipe", .pipeline = 4}},
        ThreadsCase{"Pipeline2RecomputeGpipe", 2, {.recompute = true, .schedule = "gpipe", .pipeline = 2}},
        ThreadsCase{"Data2", 2, {}}, ThreadsCase{"Data3", 3, {}},
        ThreadsCase{"Data4Qwen3", 4, {.model_type = "qwen3"}},
        ThreadsCase{"Tensor2Pipeline2", 4, {.tensor = 2, .pipeline = 2}},
        ThreadsCase{"Tensor2Data2Qwen2", 4, {.model_type = "qwen2", .tensor = 2}},
        ThreadsCase{"Pipeline2Data2Recompute", 4, {.recompute = true, .pipeline = 2}},
        ThreadsCase{"Tensor3Pipeline2", 6, {.tensor = 3, .pipeline = 2}},
        ThreadsCase{"Pipeline3Data2Untied", 6, {.tied = false, .pipeline = 3}},
        ThreadsCase{"Tensor2Data3", 6, {.tensor = 2}},
        ThreadsCase{"Tensor2Pipeline2Data2Qwen3",
                    8,
                    {.model_type = "qwen3", .kv_heads = 1, .tensor = 2, .pipeline = 2}},
        ThreadsCase{"Pipeline2Data4", 8, {.pipeline = 2, .global_batch = 16}}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace terroir::test
