// A rehearsal meets every product of a run and leaves no trace of itself.
#include <gtest/gtest.h>

#include "kernels/matmul/gemm_choice.h"
#include "kernels/tensor/cuda_module.h"
#include "tests/trainer/layout_case.h"
#include "tests/trainer/running_engine.h"

namespace terroir::test {
namespace {

struct Outcome {
  std::vector<double> losses, grad_norms;
  std::vector<std::vector<float>> state;                 // weights and moments
  std::size_t products_rehearsed = 0, products_met = 0;  // kinds
  bool operator==(const Outcome&) const = default;
};

// Two steps and an evaluation on this rank.
Outcome train(const Config& config, World& world, bool rehearse) {
  RunningEngine running(config, world);
  Engine& engine = running.engine;
  Outcome outcome;
  const auto num_products = [&] { return running.ctx.cache<GemmChoices>().made.choices.size(); };
  if (rehearse) engine.rehearse();
  outcome.products_rehearsed = num_products();
  std::int64_t sample = 0;
  SampleBatch batch;
  const auto next_batch = [&]() -> const SampleBatch& {
    return batch = make_samples(sample++, config.train.micro_batch_size, config);
  };
  for (int step = 0; step < 2; ++step) {
    const StepResult result = engine.train_step(step, next_batch);
    outcome.losses.push_back(result.loss());
    outcome.grad_norms.push_back(result.grad_norm);
  }
  outcome.losses.push_back(engine.evaluate(3, next_batch).nll[0]);
  for (const StateSlice& slice : engine.slices(true, true))
    outcome.state.emplace_back(slice.data, slice.data + (slice.end - slice.begin));
  outcome.products_met = num_products();
  return outcome;
}

class Rehearsal : public testing::TestWithParam<LayoutCase> {};

TEST_P(Rehearsal, LeavesNoTraceAndMeetsEveryProduct) {
  Config config = make_config(GetParam());
  config.model.num_hidden_layers = 2;
  config.parallel.transport = "host";
  for (const char* device : {"cpu", "cuda"}) {
    config.device = device;
    if (config.device == "cuda") load_cuda_module();
    run_threads(config.parallel.tensor * config.parallel.pipeline, {.timeout_s = 60}, [&](World& world) {
      const Outcome rehearsed = train(config, world, true);
      Outcome plain = train(config, world, false);
      EXPECT_EQ(rehearsed.products_rehearsed, rehearsed.products_met) << device;
      EXPECT_EQ(plain.products_rehearsed, 0U);
      plain.products_rehearsed = plain.products_met;
      EXPECT_TRUE(rehearsed == plain) << device;
      EXPECT_EQ(rehearsed.products_met > 0, config.device == "cuda");
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, Rehearsal,
                         testing::Values(LayoutCase{.global_batch = 4},
                                         LayoutCase{.model_type = "qwen2", .tensor = 2, .global_batch = 4},
                                         LayoutCase{.recompute = true, .pipeline = 2, .global_batch = 6},
                                         LayoutCase{.model_type = "qwen3",
                                                    .tied = false,
                                                    .schedule = "gpipe",
                                                    .pipeline = 2,
                                                    .global_batch = 6}));

}  // namespace
}  // namespace terroir::test
