// Algorithms of matrix products over whole runs: measured once, the same on all ranks, kept by checkpoints.
// The emulated GPU's measurements are noise, other for every rank and run, and its algorithms round
// differently (tests/cuda_on_cpu/stand_ins.cc).
#include <gtest/gtest.h>

#include "base/hash.h"
#include "tests/support/expect_error.h"
#include "tests/trainer/training_run.h"
#include "trainer/step/gemm_agreement.h"

namespace terroir {
namespace {
namespace fs = std::filesystem;

class GemmTraining : public test::TrainingRun {
 protected:
  // One layer: the products of more are of the same kinds.
  Config small(const std::string& name, std::vector<std::string> overrides = {}) {
    overrides.insert(overrides.begin(), "model.num_hidden_layers=1");
    return config(name, overrides);
  }
  GemmChoiceList stored(const std::string& run, int step) const {
    return stored_gemm_choices(checkpoint(run, step));
  }
  std::string log(const std::string& run) const { return read_file(root(run) / "log/rank-00000.log"); }

  // What a checkpoint of step 4 would be with this file of choices; nothing: without one.
  void replace_choices(const std::string& run, const std::optional<std::string>& text) const {
    CheckpointManifest manifest = read_checkpoint_manifest(checkpoint(run, 4));
    std::erase_if(manifest.files, [](const StoredFile& file) { return file.name == kGemmChoicesName; });
    if (text) {
      write_file_atomically(checkpoint(run, 4) / kGemmChoicesName, *text);
      manifest.files.push_back(
          {kGemmChoicesName, text->size(), xxh3_128(std::as_bytes(std::span(*text))).hex()});
    }
    write_file_atomically(checkpoint(run, 4) / kManifestName, manifest_text(manifest));
  }
};

bool any_measured(const GemmChoiceList& list) {
  return std::ranges::any_of(list.choices, [](const GemmChoice& choice) { return choice.us > 0; });
}

TEST_F(GemmTraining, DataRanksAgreeAndAResumeTakesWhatTheyAgreedOn) {
  run(small("whole"), 2);
  EXPECT_TRUE(any_measured(stored("whole", 4)));
  EXPECT_EQ(stored("whole", 4), stored("whole", 8));
  start_from_step_4("whole", "resumed");
  run(small("resumed"), 2);
  EXPECT_EQ(stored("resumed", 8), stored("whole", 8));
  const auto whole = losses("whole"), resumed = losses("resumed");
  ASSERT_EQ(resumed.size(), 4U);
  for (const auto& [step, loss] : resumed) EXPECT_EQ(loss, whole.at(step)) << "step " << step;
  EXPECT_EQ(state(checkpoint("resumed", 8)), state(checkpoint("whole", 8)));
  EXPECT_EQ(log("resumed").find("matrix products were"), std::string::npos);
}

TEST_F(GemmTraining, ANewRunMeasuresAnew) {
  for (const char* name : {"a", "b"}) run(small(name, {"train.steps=4"}));
  EXPECT_NE(stored("a", 4), stored("b", 4));
}

TEST_F(GemmTraining, OneCandidateIsTheLibrarysFirstSuggestion) {
  for (const char* name : {"a", "b"}) run(small(name, {"train.steps=4", "train.gemm_candidates=1"}));
  EXPECT_FALSE(stored("a", 4).choices.empty());
  EXPECT_FALSE(any_measured(stored("a", 4)));
  EXPECT_EQ(stored("a", 4), stored("b", 4));
  EXPECT_EQ(state(checkpoint("a", 4)), state(checkpoint("b", 4)));
}

TEST_F(GemmTraining, AnotherLayoutTakesWhatItMeetsAndAddsItsOwn) {
  run(small("one", {"train.steps=4"}));
  const std::vector<GemmChoice> before = stored("one", 4).choices;
  start_from_step_4("one", "two");
  run(small("two", {"parallel.tensor=2"}), 2);
  const std::vector<GemmChoice> after = stored("two", 8).choices;
  EXPECT_GT(after.size(), before.size());
  for (const GemmChoice& choice : before) {
    const auto kept = std::ranges::find(after, choice.key, &GemmChoice::key);
    ASSERT_NE(kept, after.end()) << choice.key;
    EXPECT_EQ(kept->algorithm, choice.algorithm) << choice.key;
  }
}

TEST_F(GemmTraining, AnotherLibraryIsAnnouncedAndMeasured) {
  run(small("old", {"train.steps=4"}));
  GemmChoiceList list = stored("old", 4);
  const std::string library = list.library;
  list.library = "another library";
  replace_choices("old", to_json(list));
  EXPECT_EQ(run(small("old")), ExitCode::kDone);
  EXPECT_NE(log("old").find("matrix products were computed by another library, now by " + library),
            std::string::npos);
  EXPECT_EQ(stored("old", 8).library, library);
  EXPECT_TRUE(any_measured(stored("old", 8)));
}

TEST_F(GemmTraining, AnAlgorithmThatTheLibraryRefusesIsAnnouncedAndReplaced) {
  run(small("old", {"train.steps=4"}));
  GemmChoiceList list = stored("old", 4);
  const std::string refused = to_hex({~std::uint64_t{0}, ~std::uint64_t{0}});
  list.choices.back().algorithm = refused;
  replace_choices("old", to_json(list));
  EXPECT_EQ(run(small("old")), ExitCode::kDone);
  EXPECT_NE(log("old").find("matrix product " + list.choices.back().key + ": another algorithm"),
            std::string::npos);
  EXPECT_EQ(to_json(stored("old", 8)).find(refused), std::string::npos);
}

TEST_F(GemmTraining, DamagedChoicesAreRefusedBeforeAnythingIsWritten) {
  run(small("a", {"train.steps=4"}));
  const std::string good = read_file(checkpoint("a", 4) / kGemmChoicesName);
  const std::string recorded = read_file(root("a") / "config.resolved.yaml");
  const auto refused = [&](const std::vector<std::string>& words) {
    expect_error(ExitCode::kCheckpoint, words, [&] { run(small("a"), 2); });
    EXPECT_EQ(read_file(root("a") / "config.resolved.yaml"), recorded);
  };
  std::string flipped = good;
  flipped[good.size() / 2] ^= 1;
  write_file_atomically(checkpoint("a", 4) / kGemmChoicesName, flipped);
  refused({"step-00000004/gemm_choices.json", "damaged"});
  replace_choices("a", "{\"library\": \"x\", \"choices\": 1}");
  refused({"step-00000004/gemm_choices.json", "`choices` must be a list"});
}

TEST_F(GemmTraining, ACheckpointWithoutChoicesIsGoneOnFrom) {
  run(small("a", {"train.steps=4"}));
  replace_choices("a", std::nullopt);
  EXPECT_TRUE(stored("a", 4).choices.empty());
  EXPECT_EQ(run(small("a")), ExitCode::kDone);
  EXPECT_TRUE(any_measured(stored("a", 8)));
  EXPECT_EQ(log("a").find("matrix products were"), std::string::npos);
}

TEST_F(GemmTraining, TheCpuHasNothingToChoose) {
  run(small("a", {"train.steps=4", "device=cpu"}));
  EXPECT_FALSE(read_checkpoint_file(checkpoint("a", 4), kGemmChoicesName).has_value());
}

}  // namespace
}  // namespace terroir
