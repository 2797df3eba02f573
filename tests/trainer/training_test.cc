// Whole runs on the `threads` transport: what resumes, what is refused, what a run leaves behind.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <thread>

#include "tests/support/expect_error.h"
#include "tests/trainer/training_run.h"
#include "trainer/model/step_times.h"

namespace terroir {
namespace {
namespace fs = std::filesystem;
using test::TrainingRun;

TEST_F(TrainingRun, LearnsAndLeavesTheFilesOfARun) {
  EXPECT_EQ(run(config("a")), ExitCode::kDone);
  const auto loss = losses("a");
  ASSERT_EQ(loss.size(), 8u);
  EXPECT_NEAR(loss.at(1), std::log(258.0), 0.2);  // a uniform guess over 258 ids
  EXPECT_LT(loss.at(8), loss.at(1) - 0.05);
  for (const char* file : {"config.resolved.yaml", "environment.json", "metrics.jsonl", "metrics.prom",
                           "log/rank-00000.log", "checkpoints/step-00000008/manifest.json"})
    EXPECT_TRUE(fs::exists(root("a") / file)) << file;
  const std::string attention =
      "attention: Terroir's kernels without tensor cores (cuDNN computes in bf16 here, not f32)";
  EXPECT_EQ(read_file(root("a") / "log/rank-00000.log").find(attention) != std::string::npos, on_cuda());
  const MetricsHistory metrics = read_metrics(root("a") / "metrics.jsonl");
  ASSERT_EQ(metrics.validation.size(), 2u);
  EXPECT_EQ(metrics.validation[1].step, 8);
  EXPECT_EQ(metrics.validation[1].loss_by_source.size(), 2u);
  EXPECT_EQ(metrics.steps[7].tokens, 8 * 8 * 32);
  EXPECT_EQ(metrics.steps[7].loss_by_source.size(), 2u);
  EXPECT_GT(metrics.steps[7].mfu, 0);
  EXPECT_GT(metrics.steps[7].mfu_full_attention, metrics.steps[7].mfu);
  const auto& parts = metrics.steps[7].part_s;
  ASSERT_EQ(parts.size(), static_cast<std::size_t>(kNumStepParts));
  double sum = 0;
  for (const auto& [part, seconds] : parts) {
    EXPECT_GT(seconds, 0) << part;
    sum += seconds;
  }
  EXPECT_LE(sum, metrics.steps[7].step_s);
  EXPECT_GT(sum, metrics.steps[7].step_s / 2);
}

TEST_F(TrainingRun, ResumesBitForBit) {
  for (const auto& [ranks, overrides] : std::vector<std::pair<int, std::vector<std::string>>>{
           {1, {}},
           {2, {"precision={compute: bf16, master: bf16, gradients: bf16, reduction: bf16}"}},
           {4, {"parallel.tensor=2", "parallel.pipeline=2"}}}) {
    const std::string name = fmt::format("whole{}", ranks), second = fmt::format("second{}", ranks);
    run(config(name, overrides), ranks);
    start_from_step_4(name, second);
    run(config(second, overrides), ranks);
    const auto whole = losses(name), resumed = losses(second);
    ASSERT_EQ(resumed.size(), 4u);
    for (const auto& [step, loss] : resumed) EXPECT_EQ(loss, whole.at(step)) << "step " << step;
    EXPECT_EQ(state(checkpoint(second, 8)), state(checkpoint(name, 8)));
  }
}

TEST_F(TrainingRun, GoesOnInAnotherLayout) {
  run(config("saved", {"parallel.tensor=2", "parallel.pipeline=2"}), 4);
  const auto expected_loss = losses("saved");
  const auto expected = state(checkpoint("saved", 8));
  struct Layout {
    const char* name;
    int ranks, tensor, pipeline;
  };
  for (const Layout& layout : {Layout{"t1", 1, 1, 1}, Layout{"t4", 4, 4, 1}, Layout{"p2d2", 4, 1, 2}}) {
    start_from_step_4("saved", layout.name);
    run(config(layout.name, {fmt::format("parallel.tensor={}", layout.tensor),
                             fmt::format("parallel.pipeline={}", layout.pipeline)}),
        layout.ranks);
    for (const auto& [step, loss] : losses(layout.name))
      EXPECT_NEAR(loss, expected_loss.at(step), 2e-6) << layout.name;
    for (const auto& [tensor, values] : state(checkpoint(layout.name, 8)))
      for (std::size_t i = 0; i < values.size(); ++i)
        ASSERT_NEAR(values[i], expected.at(tensor)[i], 5e-6)
            << layout.name << " " << tensor << "[" << i << "]";
  }
}

TEST_F(TrainingRun, StartsFromAnotherRunsWeights) {
  run(config("first"));
  run(config("second", {"init_from=" + root("first").string(), "train.steps=4"}));
  EXPECT_LT(losses("second").at(1), losses("first").at(2));
}

TEST_F(TrainingRun, SavesAndLeavesWhenAskedTo) {
  const Config asked = config("asked", {"train.steps=4000", "schedule.name=constant", "checkpoint.every=0"});
  std::thread stop([&] {
    while (!fs::exists(root("asked") / "metrics.prom"))
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::ofstream(root("asked") / "STOP");
  });
  EXPECT_EQ(run(asked, 2), ExitCode::kRequeue);
  stop.join();
  EXPECT_TRUE(newest_valid_checkpoint(root("asked") / "checkpoints").has_value());
}

TEST_F(TrainingRun, NonFiniteLossStopsBeforeTheUpdate) {
  // A rate of 1e30 sends the weights out of range in the first update; the second step must not be written.
  expect_error(ExitCode::kNumerical, {"step 2", "not finite", "optimizer.lr"}, [&] {
    run(config("diverges", {"optimizer.lr=1e30", "schedule.name=constant", "schedule.warmup_steps=0",
                            "checkpoint.every=1"}));
  });
  EXPECT_FALSE(fs::exists(checkpoint("diverges", 2)));
  EXPECT_TRUE(fs::exists(checkpoint("diverges", 1)));
}

TEST_F(TrainingRun, RefusesAnotherModelTokenizerOrDataOnResume) {
  run(config("a"));
  expect_error(ExitCode::kUsage, {"step-00000008", "another model", "run.name"}, [&] {
    run(config("a", {"model.hidden_size=48", "train.steps=9"}));
  });
  expect_error(ExitCode::kUsage, {"step-00000008", "other data"}, [&] {
    run(config("a", {"data.stages.0.sources.ko=0.1", "train.steps=9"}));
  });
  const std::string recorded = read_file(root("a") / "config.resolved.yaml");
  expect_error(ExitCode::kUsage, {"train.steps", "3 is less than the 8 steps"},
               [&] { run(config("a", {"train.steps=3"})); });
  EXPECT_EQ(read_file(root("a") / "config.resolved.yaml"), recorded);  // of the run, not of what was refused
  expect_error(ExitCode::kUsage, {"checkpoint.resume", "never"},
               [&] { run(config("a", {"checkpoint.resume=never"})); });
  EXPECT_EQ(run(config("fresh", {"checkpoint.resume=never"}), 2), ExitCode::kDone);
}

TEST_F(TrainingRun, RefusesWhatTheRanksDoNotFit) {
  expect_error(ExitCode::kUsage, {"parallel", "3 ranks", "tensor 2"},
               [&] { run(config("a", {"parallel.tensor=2"}), 3); });
  expect_error(ExitCode::kUsage, {"train.global_batch_size", "8", "3"}, [&] { run(config("a"), 3); });
  EXPECT_FALSE(fs::exists(root("a")));
}

TEST_F(TrainingRun, SaysBeforeItStartsThatMemoryWillNotDo) {
  const Config large = config("large", {"model.hidden_size=32768", "model.num_hidden_layers=200",
                                        "model.intermediate_size=131072", "model.head_dim=128"});
  expect_error(ExitCode::kUsage,
               {"the run does not fit: 2 ranks on this ", " need 59", " MiB are available",
                "the largest parts of a rank are parameters with 9868882 MiB, gradients with 9868882 MiB, "},
               [&] { run(large, 2); });
  EXPECT_FALSE(fs::exists(root("large")));
}

TEST_F(TrainingRun, PassesOverADamagedCheckpoint) {
  run(config("a"));
  fs::resize_file(checkpoint("a", 8) / "rank-00000.safetensors", 100);
  const auto before = losses("a");
  run(config("a"));  // goes on from step 4
  EXPECT_EQ(losses("a"), before);
  EXPECT_EQ(read_checkpoint_meta(checkpoint("a", 8)).step, 8);
}

TEST_F(TrainingRun, DoesNotStartAnewOverCheckpointsThatCannotBeRead) {
  run(config("a"));
  for (const std::int64_t step : {4, 8})
    fs::resize_file(checkpoint("a", step) / "rank-00000.safetensors", 100);
  expect_error(ExitCode::kCheckpoint, {"no checkpoint here can be read", "step-00000004", "step-00000008"},
               [&] { run(config("a")); });
}

TEST_F(TrainingRun, RefusesTheWeightsOfAnotherModel) {
  run(config("first"));
  const std::string from = "init_from=" + root("first").string();
  expect_error(ExitCode::kCheckpoint, {"init_from", "model.tie_word_embeddings is true, here false"}, [&] {
    run(config("b", {from, "model.tie_word_embeddings=false"}), 2);
  });
  expect_error(ExitCode::kCheckpoint, {"holds no complete checkpoint"},
               [&] { run(config("b", {"init_from=" + root("none").string()}), 2); });
  EXPECT_FALSE(fs::exists(root("b")));
}

// --dry-run says what the run itself would say.
TEST_F(TrainingRun, ADryRunRefusesWhatTheRunRefuses) {
  run(config("a"));
  const auto dry_run = [&](const Config& config) {
    return train(config, *local_world(), {.dry_run = true, .quiet = true});
  };
  EXPECT_EQ(dry_run(config("a")), ExitCode::kDone);
  expect_error(ExitCode::kUsage, {"train.steps"}, [&] { dry_run(config("a", {"train.steps=3"})); });
  expect_error(ExitCode::kUsage, {"never"}, [&] { dry_run(config("a", {"checkpoint.resume=never"})); });
  expect_error(ExitCode::kCheckpoint, {"holds no complete checkpoint"},
               [&] { dry_run(config("b", {"init_from=" + root("none").string()})); });
  EXPECT_FALSE(fs::exists(root("b")));
}

TEST_F(TrainingRun, OneJobOwnsARunFolder) {
  fs::create_directories(root("a"));
  const FileLock lock(root("a") / ".lock");
  expect_error(ExitCode::kUsage, {".lock", "another process"}, [&] { run(config("a")); });
}

}  // namespace
}  // namespace terroir
