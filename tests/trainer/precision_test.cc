// Training in bf16 follows training in f32: the CPU backend rounds where the CUDA backend does, so that the
// band is tested without a GPU.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/trainer/layout_case.h"
#include "trainer/step/engine.h"

namespace terroir::test {
namespace {

constexpr int kNumSteps = 60;

std::vector<double> loss_curve(Config config, const char* compute) {
  config.precision.compute = compute;
  const auto world = local_world();
  Mesh mesh(*world, MeshShape{});
  OpContext ctx;
  Engine engine(config, mesh, ctx, {}, 1);
  engine.initialize();
  engine.synchronize();
  std::vector<double> losses;
  for (int step = 0; step < kNumSteps; ++step) {
    const SampleBatch batch = make_samples(step % 4 * 4, config.train.micro_batch_size, config);
    losses.push_back(engine.train_step(step, [&]() -> const SampleBatch& { return batch; }).loss());
  }
  return losses;
}

class Bf16 : public testing::TestWithParam<const char*> {};

TEST_P(Bf16, LossCurveStaysWithinItsBandOfF32) {
  Config config = make_config({.model_type = GetParam(), .global_batch = 4, .micro_batch = 4});
  config.train.steps = kNumSteps;
  config.optimizer.lr = 3e-3;
  const std::vector<double> f32 = loss_curve(config, "f32"), bf16 = loss_curve(config, "bf16");
  double worst = 0, sum = 0;
  for (std::size_t step = 0; step < f32.size(); ++step) {
    const double difference = std::abs(bf16[step] - f32[step]) / f32[step];
    worst = std::max(worst, difference);
    sum += difference;
  }
  // The band. These models learn four batches by heart, which magnifies differences; they grow and shrink
  // again.
  EXPECT_LT(worst, 0.04);
  EXPECT_LT(sum / kNumSteps, 0.01);
  EXPECT_GT(worst, 1e-6);               // it was bf16
  EXPECT_LT(f32.back(), 0.8 * f32[0]);  // there was something to learn
}
INSTANTIATE_TEST_SUITE_P(Models, Bf16, testing::Values("llama", "qwen2", "qwen3"),
                         [](const testing::TestParamInfo<const char*>& info) {
                           return std::string(info.param);
                         });

}  // namespace
}  // namespace terroir::test
