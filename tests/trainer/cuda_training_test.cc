// Training steps with `device: cuda` equal those of the CPU backend: on a GPU, or on the CPU that runs the
// same kernels (TERROIR_CUDA_MODULE). Ranks are threads that share the device over staged transports.
#include <gtest/gtest.h>

#include <mutex>

#include "kernels/tensor/cuda_module.h"
#include "tests/trainer/layout_case.h"

namespace terroir::test {
namespace {

struct DeviceCase {
  const char* name;
  int ranks;
  LayoutCase layout;
  const char* compute;
};

// Largest relative difference of losses and norms, and of an element relative to its tensor's largest.
struct Limits {
  double loss, element;
};
// f32: sums in another order. bf16: both devices round at the same points, but a sum that lies near the
// middle of two bf16 numbers may go either way: one unit in the last place is 2^-8 = 0.4 %, and such
// differences add up over layers.
Limits limits_of(const char* compute) {
  return std::string_view(compute) == "f32" ? Limits{2e-5, 5e-5} : Limits{2e-3, 5e-2};
}

class CudaTraining : public testing::TestWithParam<DeviceCase> {
 protected:
  CudaTraining() { load_cuda_module(); }
};

TEST_P(CudaTraining, EqualsTheCpu) {
  const auto& [name, ranks, layout, compute] = GetParam();
  Config config = make_config(layout);
  config.device = "cuda";
  config.precision.compute = compute;
  const TrainedRun reference = run_one_rank(config);
  std::mutex mutex;
  Difference most;
  run_threads(ranks, {.timeout_s = 60}, [&](World& world) {
    const Difference difference = compare_with_one_rank(config, world, reference);
    const std::lock_guard lock(mutex);
    most.loss = std::max(most.loss, difference.loss);
    most.grad_norm = std::max(most.grad_norm, difference.grad_norm);
    if (difference.gradient > most.gradient) most.worst = difference.worst;
    most.gradient = std::max(most.gradient, difference.gradient);
    most.weight = std::max(most.weight, difference.weight);
    most.elements_checked += difference.elements_checked;
  });
  const Limits limits = limits_of(compute);
  EXPECT_LT(most.loss, limits.loss);
  EXPECT_LT(most.grad_norm, limits.element);
  EXPECT_LT(most.gradient, limits.element) << most.worst;
  EXPECT_LT(most.weight, limits.element) << most.worst;
  EXPECT_GT(most.elements_checked, 0);
  EXPECT_LT(reference.losses[kSteps - 1], reference.losses[0]);
}

TEST_P(CudaTraining, RepeatsItsBits) {
  const auto& [name, ranks, layout, compute] = GetParam();
  Config config = make_config(layout);
  config.device = "cuda";
  config.precision.compute = compute;
  const TrainedRun reference = run_one_rank(config);
  const auto bits = [&] {
    std::mutex mutex;
    std::string all;
    run_threads(ranks, {.timeout_s = 60}, [&](World& world) {
      const Difference difference = compare_with_one_rank(config, world, reference);
      const std::lock_guard lock(mutex);
      if (world.rank() == 0) all = difference.bits;
    });
    return all;
  };
  EXPECT_EQ(bits(), bits());
}

INSTANTIATE_TEST_SUITE_P(
    Steps, CudaTraining,
    testing::Values(DeviceCase{"F32", 1, {}, "f32"}, DeviceCase{"Bf16", 1, {}, "bf16"},
                    DeviceCase{"F32RecomputeQwen3", 1, {.model_type = "qwen3", .recompute = true}, "f32"},
                    DeviceCase{"Bf16Qwen3", 1, {.model_type = "qwen3"}, "bf16"},
                    DeviceCase{"F32Tensor2Qwen2", 2, {.model_type = "qwen2", .tensor = 2}, "f32"},
                    DeviceCase{"F32Pipeline2", 2, {.pipeline = 2}, "f32"},
                    DeviceCase{"Bf16Data2", 2, {}, "bf16"},
                    DeviceCase{"Bf16Tensor2Pipeline2", 4, {.tensor = 2, .pipeline = 2}, "bf16"}),
    [](const testing::TestParamInfo<DeviceCase>& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace terroir::test
