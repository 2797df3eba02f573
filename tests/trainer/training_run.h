// Whole runs of a small model, on the CPU or, with TERROIR_TEST_DEVICE=cuda, on a GPU.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string_view>

#include "base/file.h"
#include "data/shard/build_shards.h"
#include "data/tokenizer/train.h"
#include "parallel/world.h"
#include "tests/support/temporary_folder.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/config/config_file.h"
#include "trainer/metrics/metrics_reader.h"
#include "trainer/step/training.h"

namespace terroir::test {
namespace fs = std::filesystem;

// A tokenizer of single bytes, two sources of text, and configurations over them.
class TrainingRun : public testing::Test {
 protected:
  void SetUp() override {
    const WordCounts no_words{};
    write_file_atomically(folder_ / "tokenizer.json",
                          tokenizer_json(train_bpe(no_words, {.vocab_size = 258})));
    const Tokenizer tokenizer = Tokenizer::load(folder_ / "tokenizer.json");
    for (const char* source : {"ko", "tl"}) build(source, tokenizer);
  }

  void build(const std::string& source, const Tokenizer& tokenizer) {
    std::ofstream text(folder_ / (source + ".txt"));
    for (int line = 0; line < 60; ++line)
      text << (source == "ko" ? "오늘 시장에서 사과 " : "Bumili ako ng mansanas ") << line * 7 << " ... "
           << line << "\n";
    text.close();
    build_shards({.source = source,
                  .language = source,
                  .license = "CC0-1.0",
                  .out_folder = folder_ / source,
                  .files = {folder_ / (source + ".txt")},
                  .validation_fraction = 0.1},
                 tokenizer);
  }

  Config config(const std::string& name, const std::vector<std::string>& overrides = {}) {
    const std::string root = folder_.path().string();
    const std::string yaml =
        "run: {name: " + name + ", dir: " + root + "/runs, seed: 5}\n" +
        "model: {hidden_size: 32, intermediate_size: 56, num_hidden_layers: 3, num_attention_heads: 4,\n"
        "        num_key_value_heads: 2, vocab_size: from_tokenizer}\n"
        "tokenizer: " +
        root + "/tokenizer.json\n" +
        "data:\n  sequence_length: 32\n  stages: [{sources: {ko: 0.6, tl: 0.4}}]\n  sources:\n" +
        "    ko: {shards: '" + root + "/ko/*.h5', language: ko}\n    tl: {shards: '" + root + "/tl/*.h5'}\n" +
        "train: {steps: 8, global_batch_size: 8, micro_batch_size: 2, threads: 1}\n"
        "optimizer: {eps: 1e-3}\n"
        "schedule: {name: cosine, warmup_steps: 2}\n"
        "checkpoint: {every: 4, keep_last: 0}\n"
        "eval: {every: 4, max_samples: 3}\n";
    std::vector<std::string> all = on_test_device();
    all.insert(all.end(), overrides.begin(), overrides.end());
    return parse_config(yaml, "test.yaml", all);
  }

  static bool on_cuda() {
    const char* device = std::getenv("TERROIR_TEST_DEVICE");
    return device != nullptr && std::string_view(device) == "cuda";
  }
  // The CPU, or with TERROIR_TEST_DEVICE=cuda the first GPU, which the ranks share.
  static std::vector<std::string> on_test_device() {
    if (!on_cuda()) return {"device=cpu"};
    return {"device=cuda", "parallel.transport=host", "precision.compute=f32"};
  }

  ExitCode run(const Config& config, int ranks = 1) {
    std::atomic<int> exit_code{-1};
    run_threads(ranks, {.timeout_s = 60},
                [&](World& world) { exit_code = static_cast<int>(train(config, world, {.quiet = true})); });
    return static_cast<ExitCode>(exit_code.load());
  }

  fs::path root(const std::string& name) const { return folder_.path() / "runs" / name; }
  fs::path checkpoint(const std::string& name, int step) const {
    return root(name) / "checkpoints" / fmt::format("step-{:08d}", step);
  }
  // The state that `from` had after step 4 becomes a run folder of its own.
  void start_from_step_4(const std::string& from, const std::string& name) {
    fs::create_directories(root(name) / "checkpoints");
    fs::copy(checkpoint(from, 4), checkpoint(name, 4), fs::copy_options::recursive);
  }
  std::map<std::int64_t, double> losses(const std::string& name) const {
    std::map<std::int64_t, double> values;
    for (const StepMetrics& step : read_metrics(root(name) / "metrics.jsonl").steps)
      values[step.step] = step.loss;
    return values;
  }
  // Every element of every state of a checkpoint.
  std::map<std::string, std::vector<float>> state(const fs::path& checkpoint) const {
    std::map<std::string, std::vector<float>> values;
    for (const auto& [name, tensor] : read_checkpoint_manifest(checkpoint).tensors)
      for (const auto& [state, slices] : tensor.states) {
        std::vector<float>& data = values[fmt::format("{}/{}", name, state)];
        data.resize(static_cast<std::size_t>(whole_box(tensor.shape).numel()));
        const StateSlice wanted = whole_slice(name, state, tensor.shape, data.data());
        load_checkpoint(checkpoint, {&wanted, 1});
      }
    return values;
  }

  TemporaryFolder folder_;
};

}  // namespace terroir::test
