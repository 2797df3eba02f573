// Training in bf16 follows training in f32: the CPU backend rounds where the CUDA backend does, so that the
// band is tested without a GPU.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "tests/trainer/layout_case.h"
#include "tests/trainer/running_engine.h"

namespace terroir::test {
namespace {

constexpr int kNumSteps = 60;

// Rank 0's.
std::vector<double> loss_curve(const Config& config, int ranks = 1) {
  std::vector<double> losses;
  run_threads(ranks, {.timeout_s = 60}, [&](World& world) {
    RunningEngine running(config, world);
    Engine& engine = running.engine;
    for (int step = 0; step < kNumSteps; ++step) {
      const std::int64_t per_rank = config.train.micro_batch_size;
      const SampleBatch batch = make_samples(step % 4 * 4 + world.rank() * per_rank, per_rank, config);
      const double loss = engine.train_step(step, [&]() -> const SampleBatch& { return batch; }).loss();
      if (world.rank() == 0) losses.push_back(loss);
    }
  });
  return losses;
}

// Four batches of four samples, which the models learn by heart; the samples divided over `ranks`.
Config band_config(const char* model_type, int ranks = 1) {
  Config config = make_config({.model_type = model_type, .global_batch = 4, .micro_batch = 4 / ranks});
  config.train.steps = kNumSteps;
  config.optimizer.lr = 3e-3;
  return config;
}

// The band: relative differences from a curve that learns. Learning by heart magnifies differences; they grow
// and shrink again.
void expect_in_band(const std::vector<double>& curve, const std::vector<double>& of, double worst_allowed,
                    double mean_allowed) {
  double worst = 0, sum = 0;
  for (std::size_t step = 0; step < of.size(); ++step) {
    const double difference = std::abs(curve[step] - of[step]) / of[step];
    worst = std::max(worst, difference);
    sum += difference;
  }
  EXPECT_LT(worst, worst_allowed);
  EXPECT_LT(sum / kNumSteps, mean_allowed);
  EXPECT_GT(worst, 1e-6);             // it was another precision
  EXPECT_LT(of.back(), 0.8 * of[0]);  // there was something to learn
}

class Bf16 : public testing::TestWithParam<const char*> {};

TEST_P(Bf16, LossCurveStaysWithinItsBandOfF32) {
  Config config = band_config(GetParam());
  config.precision.compute = "f32";
  const std::vector<double> f32 = loss_curve(config);
  config.precision.compute = "bf16";
  expect_in_band(loss_curve(config), f32, 0.04, 0.01);
}
INSTANTIATE_TEST_SUITE_P(Models, Bf16, testing::Values("llama", "qwen2", "qwen3"),
                         [](const testing::TestParamInfo<const char*>& info) {
                           return std::string(info.param);
                         });

// precision.reduction

TEST(Bf16Reduction, LossCurveStaysWithinItsBandOfF32) {
  Config config = band_config("llama", 2);
  config.precision.compute = "f32";
  const std::vector<double> f32 = loss_curve(config, 2);
  config.precision.reduction = "bf16";
  expect_in_band(loss_curve(config, 2), f32, 0.04, 0.01);
}

// A rank's part is rounded, by 2^-9 of it at most, and so is the sum.
TEST(Bf16Reduction, GradientsAreThoseOfOneRankButForTwoRoundings) {
  struct Case {
    int ranks;
    LayoutCase layout;
  };
  for (const Case& c :
       {Case{2, {}}, Case{3, {}}, Case{4, {.model_type = "qwen3", .tensor = 2}}, Case{4, {.pipeline = 2}}}) {
    Config config = make_config(c.layout);
    config.optimizer.lr = 0;  // so that the last step's weights are the first's
    const TrainedRun reference = run_one_rank(config);
    config.precision.reduction = "bf16";
    const Difference most = compare_on_threads(config, c.ranks, reference);
    EXPECT_GT(most.gradient, 1e-4) << c.ranks;
    EXPECT_LT(most.gradient, 0.01) << c.ranks << " " << most.worst;
    EXPECT_LT(most.loss, 2e-5);
    EXPECT_EQ(compare_on_threads(config, c.ranks, reference).bits, most.bits);
  }
}

TEST(Bf16Reduction, OneRankExchangesAndRoundsNothing) {
  Config config = make_config({});
  const TrainedRun reference = run_one_rank(config);
  config.precision.reduction = "bf16";
  EXPECT_EQ(compare_on_threads(config, 1, reference).gradient, 0);
}

// Beside the gradients: half of the largest bucket in bf16, a byte for each of its elements.
TEST(Bf16Reduction, MemoryPlanHasTheRoomToRoundABucket) {
  Config config = make_config({});
  std::int64_t f32 = 0, bf16 = 0;
  run_threads(2, {.timeout_s = 60}, [&](World& world) {
    Mesh mesh(world, MeshShape{.data = 2});
    Config mine = config;
    OpContext ctx;
    const std::int64_t plain = Engine::plan(mine, mesh, ctx).gradients;
    mine.precision.reduction = "bf16";
    const std::int64_t rounded = Engine::plan(mine, mesh, ctx).gradients;
    if (world.rank() != 0) return;
    f32 = plain;
    bf16 = rounded;
  });
  EXPECT_GT(bf16, f32);
  EXPECT_LT(bf16, f32 + f32 / 4);
}

// precision.master and precision.gradients

Config kept_in_bf16(Config config, bool master, bool gradients) {
  config.precision.compute = "bf16";
  if (master) config.precision.master = "bf16";
  if (gradients) config.precision.gradients = config.precision.reduction = "bf16";
  return config;
}

TEST(Bf16Master, LossCurveStaysWithinItsBandOfF32) {
  const Config config = band_config("llama");
  expect_in_band(loss_curve(kept_in_bf16(config, true, false)), loss_curve(config), 0.06, 0.015);
}

// Every weight of a step's update is far below half of bf16's spacing: rounded to nearest, nothing would
// change.
TEST(Bf16Master, SmallUpdatesCountOnAverage) {
  Config config = band_config("llama");
  config.optimizer.lr = 3e-6;
  config.optimizer.eps = 1e-12;  // each element moves by lr
  const std::vector<double> f32 = loss_curve(config), bf16 = loss_curve(kept_in_bf16(config, true, false));
  const double learnt = f32.front() - f32[kNumSteps - 4];  // of the same samples
  EXPECT_GT(learnt, 1e-3);
  EXPECT_NEAR(bf16.front() - bf16[kNumSteps - 4], learnt, learnt / 2);
}

TEST(Bf16Gradients, LossCurveStaysWithinItsBandOfF32) {
  const Config config = band_config("qwen3", 2);
  expect_in_band(loss_curve(kept_in_bf16(config, false, true), 2), loss_curve(config, 2), 0.06, 0.015);
}

// Two micro-batches a rank: each rank's sum is rounded twice, that over ranks once.
TEST(Bf16Gradients, AreThoseOfF32ButForTheirRoundings) {
  for (const LayoutCase& layout :
       {LayoutCase{.global_batch = 8}, LayoutCase{.tensor = 2, .global_batch = 4}}) {
    Config config = make_config(layout);
    config.optimizer.lr = 0;
    config.precision.compute = "bf16";
    const TrainedRun reference = run_one_rank(config);
    const double without = compare_on_threads(config, 2, reference).gradient;
    config.precision.gradients = config.precision.reduction = "bf16";
    const Difference most = compare_on_threads(config, 2, reference);
    EXPECT_NE(most.gradient, without);
    EXPECT_LT(most.gradient, without + 0.02) << most.worst;
    EXPECT_LT(most.loss, 2e-3);
  }
}

// Norms are held by every tensor rank, which must not drift apart; the vocabulary does not divide by 2.
TEST(Bf16Master, RanksThatHoldTheSameWeightRoundItAlike) {
  Config config =
      kept_in_bf16(make_config({.sequence_parallel = false, .tensor = 2, .global_batch = 2}), true, true);
  std::vector<std::map<std::string, std::vector<float>>> norms(2);
  run_threads(2, {.timeout_s = 60}, [&](World& world) {
    RunningEngine running(config, world);
    Engine& engine = running.engine;
    const SampleBatch batch = make_samples(0, config.train.micro_batch_size, config);
    for (int step = 0; step < 3; ++step)
      engine.train_step(step, [&]() -> const SampleBatch& { return batch; });
    for (const StateSlice& slice : engine.slices(false, false))
      if (slice.tensor.ends_with("norm.weight"))
        norms[static_cast<std::size_t>(world.rank())][slice.tensor].assign(
            slice.data, slice.data + (slice.end - slice.begin));
  });
  EXPECT_EQ(norms[0].size(), 11u);  // two a layer and the last
  EXPECT_EQ(norms[0], norms[1]);
}

// Of n parameters in layers' matrices and v others: 2 (n + v) bytes; gradients 2 n + 4 v; moments 8 (n + v).
TEST(Bf16, MemoryPlanCountsWhatIsKept) {
  const Config config = make_config({});
  const auto world = local_world();
  Mesh mesh(*world, MeshShape{});
  OpContext ctx;
  const auto plan = [&](bool master, bool gradients) {
    return Engine::plan(kept_in_bf16(config, master, gradients), mesh, ctx);
  };
  const StageMemory plain = plan(false, false), lean = plan(true, true);
  EXPECT_EQ(lean.parameters, plain.parameters);
  EXPECT_EQ(plain.gradients, 2 * plain.parameters);
  EXPECT_EQ(plain.optimizer_state, 6 * plain.parameters);
  EXPECT_EQ(lean.optimizer_state, 4 * plain.parameters);
  EXPECT_EQ(plan(true, false).gradients, plain.gradients);
  // Five layers of 2.5 x 48 x 48 (q, k, v, o with 6 and 2 heads of 8: 48 + 32 + 48) and 3 x 48 x 58 matrices.
  const std::int64_t matrices = 5 * (48 * (48 + 32 + 48) + 3 * 48 * 58);
  EXPECT_NEAR(static_cast<double>(plain.gradients - lean.gradients), 2.0 * static_cast<double>(matrices),
              2000);
}

}  // namespace
}  // namespace terroir::test
