#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/command_line.h"
#include "trainer/config/config_document.h"
#include "trainer/config/config_file.h"

namespace terroir {
namespace {

constexpr const char* kMinimal =
    "run: {name: x}\ntokenizer: t.json\ntrain: {steps: 3}\n"
    "data: {stages: [{sources: {ko: 1}}], sources: {ko: {shards: k}}}\n";

class ConfigCommand : public testing::Test {
 protected:
  void SetUp() override { write_file_atomically(path_, kMinimal); }
  TemporaryFolder folder_;
  const std::string path_ = (folder_ / "config.yaml").string();
};

TEST_F(ConfigCommand, ShowPrintsTheResolvedConfigurationWithOverrides) {
  const CommandResult result = run_command(add_config_commands, {"config", "show", path_, "train.steps=7"});
  EXPECT_EQ(result.exit_code, 0);
  const std::vector<std::string> overrides = {"train.steps=7"};
  EXPECT_EQ(result.out, to_yaml(load_config(path_, overrides)));
  EXPECT_NE(result.out.find("  steps: 7\n"), std::string::npos) << result.out;
}

TEST_F(ConfigCommand, ShowChecksTheWorldItIsAskedAbout) {
  const CommandResult result =
      run_command(add_config_commands, {"config", "show", path_, "parallel.tensor=2", "--world", "3"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_NE(
      result.error.find("terroir: error: command line: parallel: 3 ranks are not a multiple of tensor 2"),
      std::string::npos)
      << result.error;
}

TEST_F(ConfigCommand, ProblemsAreOneLineEachAndNothingIsPrinted) {
  const CommandResult result =
      run_command(add_config_commands, {"config", "show", path_, "a=1", "train.steps=x"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 2) << result.error;
}

TEST(ConfigSchemaCommand, PrintsJsonOrMarkdown) {
  EXPECT_EQ(OrderedJson::parse(run_command(add_config_commands, {"config", "schema"}).out),
            config_json_schema());
  EXPECT_EQ(run_command(add_config_commands, {"config", "schema", "--markdown"}).out, config_markdown());
}

TEST(ConfigSchemaCommand, MissingFileIsAUsageError) {
  const CommandResult result = run_command(add_config_commands, {"config", "show", "/nonexistent.yaml"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.error.find("/nonexistent.yaml"), std::string::npos);
}

}  // namespace
}  // namespace terroir
