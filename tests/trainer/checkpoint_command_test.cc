// terroir checkpoint, import and export, as typed.
#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/command_line.h"
#include "tests/trainer/hf_folder.h"
#include "tests/trainer/save_state.h"

namespace terroir {
namespace {

namespace fs = std::filesystem;

class CheckpointCommand : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const std::int64_t step : {1, 2})
      test::save(folder_ / "checkpoints", test::meta_at(step), test::filled(test::random_layout(2, 5)));
  }
  CommandResult checkpoint(std::vector<std::string> words) const {
    words.insert(words.begin(), "checkpoint");
    return run_command(add_checkpoint_commands, std::move(words));
  }
  Json checkpoint_json(std::vector<std::string> words) const {
    words.push_back("--json");
    const CommandResult result = checkpoint(std::move(words));
    EXPECT_EQ(result.exit_code, 0) << result.error;
    return Json::parse(result.out);
  }
  void damage(const fs::path& file) const {
    std::string text = read_file(file);
    text.back() = static_cast<char>(text.back() ^ 1);
    write_file_atomically(file, text);
  }

  TemporaryFolder folder_;
  std::string run_ = folder_.path().string();
  fs::path newest_ = folder_ / "checkpoints/step-00000002";
};

TEST_F(CheckpointCommand, ListNamesEveryStepAndWhatIsWrongWithIt) {
  fs::remove(newest_ / "manifest.json");
  const Json list = checkpoint_json({"list", run_});
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0]["step"], 2);
  EXPECT_EQ(list[0]["valid"], false);
  EXPECT_EQ(list[1]["step"], 1);
  EXPECT_EQ(list[1]["valid"], true);
  EXPECT_GT(list[1]["bytes"], 134 * 4 * 3);
  const std::string text = checkpoint({"list", run_}).out;
  EXPECT_NE(text.find("step-00000002  damaged: "), std::string::npos) << text;
  EXPECT_EQ(checkpoint({"list", run_ + "/none"}).exit_code, 2);
}

TEST_F(CheckpointCommand, InspectTellsStepTensorsAndStates) {
  const Json json = checkpoint_json({"inspect", run_});
  EXPECT_EQ(json["step"], 2);
  EXPECT_EQ(json["tensors"]["model.norm.weight"]["shape"], Json::array({6}));
  EXPECT_EQ(json["tensors"]["model.norm.weight"]["slices"].size(), 3U);
  EXPECT_TRUE(json["files"].contains("rank-00001.safetensors"));
  const std::string text = checkpoint({"inspect", run_}).out;
  EXPECT_NE(text.find("model.embed_tokens.weight [11,6]"), std::string::npos) << text;
  EXPECT_NE(text.find("states: exp_avg exp_avg_sq weight"), std::string::npos) << text;
}

TEST_F(CheckpointCommand, VerifyEndsWithFourAndNamesTheDamagedFile) {
  EXPECT_EQ(checkpoint_json({"verify", run_})["valid"], true);
  damage(newest_ / "rank-00001.safetensors");
  const CommandResult result = checkpoint({"verify", run_});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_NE(result.error.find("terroir: error: " + (newest_ / "rank-00001.safetensors").string() +
                              ": does not match"),
            std::string::npos)
      << result.error;
  EXPECT_EQ(result.out, "");
}

TEST_F(CheckpointCommand, DiffComparesContentsNotLayouts) {
  const std::string older = (folder_ / "checkpoints/step-00000001").string();
  EXPECT_EQ(checkpoint_json({"diff", older, run_})["equal"], true);
  test::save(folder_ / "other", test::meta_at(1), test::random_layout(1, 8));
  const CommandResult result = checkpoint({"diff", older, (folder_ / "other").string(), "--json"});
  EXPECT_EQ(result.exit_code, 4);
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["equal"], false);
  EXPECT_EQ(json["differences"].size(), 12U);  // four tensors, three states
  EXPECT_EQ(json["differences"][0]["kind"], "values");
}

TEST(InteropCommand, ImportsAndExports) {
  TemporaryFolder folder;
  const std::string hf = (folder / "hf").string(), checkpoint = (folder / "checkpoint").string(),
                    out = (folder / "out").string();
  test::write_hf_folder(hf, test::small_model("qwen2", true), SafetensorsDType::kBF16);
  const CommandResult imported =
      run_command(add_interop_commands, {"import", "hf", hf, "--out", checkpoint, "--json"});
  EXPECT_EQ(imported.exit_code, 0) << imported.error;
  EXPECT_EQ(Json::parse(imported.out)["dtype"], "bf16");
  const CommandResult exported =
      run_command(add_interop_commands, {"export", "hf", "--checkpoint", checkpoint, "--out", out, "--dtype",
                                         "f32", "--max-shard-size", "2KB", "--json"});
  EXPECT_EQ(exported.exit_code, 0) << exported.error;
  const Json report = Json::parse(exported.out);
  EXPECT_EQ(report["dtype"], "f32");
  for (const Json& file : report["files"])
    EXPECT_TRUE(fs::exists(fs::path(out) / file.get<std::string>())) << file;
  EXPECT_TRUE(fs::exists(fs::path(out) / "model.safetensors.index.json"));
}

TEST(InteropCommand, RefusesByName) {
  TemporaryFolder folder;
  const CommandResult gguf = run_command(add_interop_commands, {"export", "gguf", "--checkpoint", "x"});
  EXPECT_EQ(gguf.exit_code, 2);
  EXPECT_NE(gguf.error.find("export gguf is planned but not built yet"), std::string::npos) << gguf.error;
  const CommandResult missing =
      run_command(add_interop_commands,
                  {"import", "hf", (folder / "none").string(), "--out", (folder / "checkpoint").string()});
  EXPECT_EQ(missing.exit_code, 4);
  EXPECT_FALSE(fs::exists(folder / "checkpoint"));
}

}  // namespace
}  // namespace terroir
