// Training steps with `device: cuda` equal those of the CPU backend: on a GPU, or on the CPU that runs the
// same kernels (TERROIR_CUDA_MODULE). Ranks are threads that share the device over staged transports.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "kernels/tensor/cuda_module.h"
#include "tests/trainer/layout_case.h"

namespace terroir::test {
namespace {

struct DeviceCase {
  const char* name;
  int ranks;
  LayoutCase layout;
  const char* compute;
  const char* reduction = "f32";
};

// Largest relative difference of losses and gradient norms, and of an element relative to its tensor's
// largest.
struct Limits {
  double loss, norm, gradient, weight;
};
// f32: sums in another order. bf16: both devices round at the same points, but a sum that lies near the
// middle of two bf16 numbers may go either way, and what follows from one such number differs everywhere by
// bf16's own rounding: as much as bf16 differs from f32 on the CPU (measured on these models: loss 6e-4, norm
// 6e-3, gradient 0.24, weight 3e-3).
Limits limits_of(const char* compute) {
  return std::string_view(compute) == "f32" ? Limits{2e-5, 2e-5, 5e-5, 2e-5} : Limits{2e-3, 2e-2, 0.3, 1e-2};
}

class CudaTraining : public testing::TestWithParam<DeviceCase> {
 protected:
  CudaTraining() { load_cuda_module(); }
};

TEST_P(CudaTraining, EqualsTheCpu) {
  const auto& [name, ranks, layout, compute, reduction] = GetParam();
  Config config = make_config(layout);
  config.device = "cuda";
  config.precision.compute = compute;
  config.precision.reduction = reduction;
  const TrainedRun reference = run_one_rank(config);
  const Difference most = compare_on_threads(config, ranks, reference);
  const Limits limits = limits_of(compute);
  EXPECT_LT(most.loss, limits.loss);
  EXPECT_LT(most.grad_norm, limits.norm);
  EXPECT_LT(most.gradient, limits.gradient) << most.worst;
  EXPECT_LT(most.weight, limits.weight) << most.worst;
  EXPECT_GT(most.elements_checked, 0);
  EXPECT_LT(reference.losses[kSteps - 1], reference.losses[0]);
}

// On the emulated GPU under other orders of threads, blocks and streams too.
TEST_P(CudaTraining, RepeatsItsBits) {
  const auto& [name, ranks, layout, compute, reduction] = GetParam();
  Config config = make_config(layout);
  config.device = "cuda";
  config.precision.compute = compute;
  config.precision.reduction = reduction;
  const TrainedRun reference = run_one_rank(config);
  const auto bits = [&] { return compare_on_threads(config, ranks, reference).bits; };
  const std::string once = bits();
  ::setenv("TERROIR_EMULATOR_SCHEDULE", "shuffled last 7", 1);
  ::setenv("TERROIR_EMULATOR_STREAMS", "eager", 1);
  const std::string again = bits();
  ::unsetenv("TERROIR_EMULATOR_SCHEDULE");
  ::unsetenv("TERROIR_EMULATOR_STREAMS");
  EXPECT_EQ(again, once);
}

INSTANTIATE_TEST_SUITE_P(
    Steps, CudaTraining,
    testing::Values(
        DeviceCase{"F32", 1, {.global_batch = 4}, "f32"}, DeviceCase{"Bf16", 1, {.global_batch = 4}, "bf16"},
        DeviceCase{
            "F32RecomputeQwen3", 1, {.model_type = "qwen3", .recompute = true, .global_batch = 2}, "f32"},
        DeviceCase{"Bf16Qwen3", 1, {.model_type = "qwen3", .global_batch = 2}, "bf16"},
        DeviceCase{"F32Tensor2Qwen2", 2, {.model_type = "qwen2", .tensor = 2, .global_batch = 2}, "f32"},
        DeviceCase{"F32Pipeline2", 2, {.pipeline = 2, .global_batch = 4}, "f32"},
        DeviceCase{"Bf16Data2", 2, {.global_batch = 4}, "bf16"},
        DeviceCase{"Bf16Data2ReducedInBf16", 2, {.global_batch = 4}, "bf16", "bf16"},
        DeviceCase{"Bf16Tensor2Pipeline2", 4, {.tensor = 2, .pipeline = 2, .global_batch = 4}, "bf16"}),
    [](const testing::TestParamInfo<DeviceCase>& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace terroir::test
