// Training steps with `device: cuda` equal those of the CPU backend: on a GPU, or on the CPU that runs the
// same kernels (TERROIR_CUDA_MODULE). Ranks are threads that share the device over staged transports, or have
// one each under NCCL.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "kernels/tensor/cuda_module.h"
#include "kernels/tensor/device.h"
#include "tests/trainer/layout_case.h"

namespace terroir::test {
namespace {

struct DeviceCase {
  const char* name;
  int ranks;
  LayoutCase layout;
  const char* compute;
  const char* transport = "host";
  const char* reduction = "f32";
  const char* kept = "f32";  // master weights, and gradients
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
// bf16 masters are rounded at random, in another layout otherwise: by 2^-7 of an element in each of three
// steps.
Limits limits_of(const DeviceCase& run) {
  Limits limits =
      std::string_view(run.compute) == "f32" ? Limits{2e-5, 2e-5, 5e-5, 2e-5} : Limits{2e-3, 2e-2, 0.3, 1e-2};
  if (std::string_view(run.kept) == "bf16") limits.weight = 3 * 0x1p-7;
  return limits;
}

class CudaTraining : public testing::TestWithParam<DeviceCase> {
 protected:
  CudaTraining() { load_cuda_module(); }
  void SetUp() override {
    if (std::string_view(GetParam().transport) == "nccl" &&
        cuda_module().runtime->num_devices() < GetParam().ranks)
      GTEST_SKIP() << "NCCL needs a GPU for each rank";
  }
  static Config config() {
    const auto& [name, ranks, layout, compute, transport, reduction, kept] = GetParam();
    Config config = make_config(layout);
    config.device = "cuda";
    config.precision.compute = compute;
    config.parallel.transport = transport;
    config.precision.reduction = reduction;
    config.precision.master = config.precision.gradients = kept;
    return config;
  }
};

TEST_P(CudaTraining, EqualsTheCpu) {
  const TrainedRun reference = run_one_rank(config());
  const Difference most = compare_on_threads(config(), GetParam().ranks, reference);
  const Limits limits = limits_of(GetParam());
  EXPECT_LT(most.loss, limits.loss);
  EXPECT_LT(most.grad_norm, limits.norm);
  EXPECT_LT(most.gradient, limits.gradient) << most.worst;
  EXPECT_LT(most.weight, limits.weight) << most.worst;
  EXPECT_GT(most.elements_checked, 0);
  EXPECT_LT(reference.losses[kSteps - 1], reference.losses[0]);
}

// On the emulated GPU under other orders of threads, blocks and streams too.
TEST_P(CudaTraining, RepeatsItsBits) {
  const TrainedRun reference = run_one_rank(config());
  const auto bits = [&] { return compare_on_threads(config(), GetParam().ranks, reference).bits; };
  const std::string once = bits();
  const bool nccl = std::string_view(GetParam().transport) == "nccl";
  ::setenv("TERROIR_EMULATOR_SCHEDULE", "shuffled last 7", 1);
  ::setenv("TERROIR_EMULATOR_STREAMS", nccl ? "others_first" : "eager", 1);
  EXPECT_EQ(bits(), once);
  ::unsetenv("TERROIR_EMULATOR_SCHEDULE");
  ::unsetenv("TERROIR_EMULATOR_STREAMS");
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
        DeviceCase{"Bf16Data2ReducedInBf16", 2, {.global_batch = 4}, "bf16", "host", "bf16"},
        DeviceCase{"NcclBf16Data2ReducedInBf16", 2, {.global_batch = 4}, "bf16", "nccl", "bf16"},
        DeviceCase{
            "AllBf16Qwen3", 1, {.model_type = "qwen3", .global_batch = 4}, "bf16", "host", "bf16", "bf16"},
        DeviceCase{"AllBf16Tensor2", 4, {.tensor = 2, .global_batch = 8}, "bf16", "host", "bf16", "bf16"},
        DeviceCase{"NcclAllBf16Data2", 2, {.global_batch = 4}, "bf16", "nccl", "bf16", "bf16"},
        DeviceCase{"Bf16Tensor2Pipeline2", 4, {.tensor = 2, .pipeline = 2, .global_batch = 4}, "bf16"},
        DeviceCase{"NcclF32Data2", 2, {.global_batch = 4}, "f32", "nccl"},
        DeviceCase{
            "NcclF32Tensor2Qwen2", 2, {.model_type = "qwen2", .tensor = 2, .global_batch = 2}, "f32", "nccl"},
        DeviceCase{"NcclF32Pipeline2", 2, {.pipeline = 2, .global_batch = 4}, "f32", "nccl"},
        DeviceCase{"NcclBf16Data4", 4, {.global_batch = 8}, "bf16", "nccl"},
        DeviceCase{
            "NcclBf16Tensor2Pipeline2", 4, {.tensor = 2, .pipeline = 2, .global_batch = 4}, "bf16", "nccl"}),
    [](const testing::TestParamInfo<DeviceCase>& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace terroir::test
