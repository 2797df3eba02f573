#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "base/json.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/command_line.h"
#include "trainer/metrics/metrics_line.h"

namespace terroir {
namespace {

class ReportCommand : public testing::Test {
 protected:
  void write_metrics() {
    StepMetrics metrics;
    metrics.step = 1;
    metrics.tokens = 64;
    metrics.loss = 2.5;
    std::ofstream(folder_ / "metrics.jsonl") << metrics_line(metrics);
  }
  TemporaryFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
};

TEST_F(ReportCommand, WritesThePageIntoTheRunAndPrintsItsPath) {
  write_metrics();
  const CommandResult result = run_command(add_report_command, {"report", folder_.string()});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, (folder_ / "report.html").string() + "\n");
  EXPECT_TRUE(read_file(folder_ / "report.html").starts_with("<!DOCTYPE html>"));
}

TEST_F(ReportCommand, JsonHasTheFinalNumbersAndWhereThePageIs) {
  write_metrics();
  const std::string out = (folder_ / "other.html").string();
  const CommandResult result =
      run_command(add_report_command, {"report", folder_.string(), "--out", out, "--json"});
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["train_loss"], 2.5);
  EXPECT_EQ(json["tokens"], 64);
  EXPECT_EQ(json["report"], out);
  EXPECT_TRUE(std::filesystem::exists(out));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "report.html"));
}

TEST_F(ReportCommand, FolderWithoutMetricsIsRefusedAndNothingIsWritten) {
  const CommandResult result = run_command(add_report_command, {"report", folder_.string()});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_NE(result.error.find("no metrics.jsonl here: give the folder of a run"), std::string::npos);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

}  // namespace
}  // namespace terroir
