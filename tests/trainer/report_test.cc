#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/well_formed.h"
#include "trainer/config/config_file.h"
#include "trainer/metrics/metrics_line.h"
#include "trainer/report/report_page.h"
#include "trainer/report/run_plots.h"
#include "trainer/report/summary.h"

namespace terroir {
namespace {

StepMetrics step_line(std::int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.tokens = step * 1000;
  metrics.loss = 10 - static_cast<double>(step) / 100;
  metrics.bits_per_byte = metrics.loss / 4;
  if (step % 2 == 0) metrics.bits_per_byte_by_source = {{"ko", 3.0}};
  metrics.bits_per_byte_by_source["ar"] = 2;
  metrics.learning_rate = 1e-3;
  metrics.grad_norm = 1;
  metrics.step_s = 2;
  metrics.tokens_per_s = 500;
  metrics.mfu = 0.5;
  metrics.data_wait_s = 0.5;
  metrics.part_s = {{"backward", 1.5}, {"forward", 0.5}};
  metrics.memory_bytes = {{"parameters", 3 << 20}};
  return metrics;
}

ValidationMetrics validation_line(std::int64_t step, double ko) {
  ValidationMetrics metrics;
  metrics.step = step;
  metrics.loss = 9;
  metrics.bits_per_byte = 2.25;
  metrics.bits_per_byte_by_source = {{"ko", ko}};
  return metrics;
}

class Report : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) { std::ofstream(folder_ / name) << text; }

  // 200 steps, held-out text at 100 and 200, resumed once.
  void write_run() {
    std::string lines;
    for (int step = 1; step <= 120; ++step) lines += metrics_line(step_line(step));
    lines += metrics_line(validation_line(100, 3.5));
    for (int step = 101; step <= 200; ++step) lines += metrics_line(step_line(step));
    write("metrics.jsonl", lines + metrics_line(validation_line(200, 2.5)));
    write("config.resolved.yaml", kConfig);
    write("environment.json", R"({"host": "a<b", "layout": {"tensor": 2, "data": 1}})");
    write("samples.jsonl",
          "{\"language\": \"ar\", \"prompt\": \"في\", \"text\": \"في البيت <&\", \"step\": 200}\n\n"
          "{\"text\": \"한국어\"}\n");
  }
  static constexpr const char* kConfig =
      "run: {name: demo}\ntokenizer: t.json\ntrain: {steps: 200}\n"
      "data:\n  stages: [{sources: {ko: 3, ar: 1}}]\n"
      "  sources: {ko: {shards: k, language: ko, license: CC0-1.0}, ar: {shards: a}, th: {shards: t}}\n";
  TemporaryFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
};

TEST_F(Report, SummaryHasTheFinalNumbers) {
  write_run();
  const RunSummary summary = summarize(read_run(folder_));
  EXPECT_EQ(summary.steps, 200);
  EXPECT_EQ(summary.tokens, 200000);
  EXPECT_EQ(summary.time_s, 400);  // each step once, also those written twice
  EXPECT_EQ(summary.tokens_per_s, 500);
  EXPECT_EQ(summary.data_wait_share, 0.25);
  EXPECT_NEAR(summary.train_loss, 8.045, 1e-12);  // mean of 10 - 1.91 .. 10 - 2.00
  EXPECT_EQ(summary.validation_loss, 9);
  ASSERT_EQ(summary.sources.size(), 3u);
  const SourceSummary& ko = summary.sources[1];
  EXPECT_EQ(ko.name, "ko");
  EXPECT_EQ(ko.license, "CC0-1.0");
  EXPECT_EQ(ko.weight, 0.75);
  EXPECT_EQ(ko.train_bits_per_byte, 3);
  EXPECT_EQ(ko.first_validation_bits_per_byte, 3.5);
  EXPECT_EQ(ko.last_validation_bits_per_byte, 2.5);
  EXPECT_EQ(summary.sources[2].weight, 0);  // th is configured and not in the mixture
  EXPECT_TRUE(std::isnan(summary.sources[2].train_bits_per_byte));
}

TEST_F(Report, PageIsWellFormedAndComplete) {
  write_run();
  const std::string page = report_page(read_run(folder_));
  EXPECT_EQ(markup_fault(page), "");
  for (const char* text :
       {"<h1>demo</h1>", "Loss", "Held-out bits per byte, by source", "Training bits per byte, by source",
        "Learning rate", "Gradient norm", "Throughput", "Waiting for data", "resumed at step 101", "CC0-1.0",
        "75.0 %", "dir=\"auto\" lang=\"ar\"><b>في</b> البيت &lt;&amp;", "한국어", "a&lt;b",
        "tensor 2, data 1", "3.0 MiB", "1.5 s, 75.0 %", "6 min 40 s", "prefers-color-scheme: dark"})
    EXPECT_NE(page.find(text), std::string::npos) << text;
  for (const char* outside : {"<script", "http://", "https://", "src=", "nan", "inf\""})
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
}

TEST_F(Report, PlotsHaveTheMeasuredValues) {
  write_run();
  const std::vector<Plot> plots = plots_of(read_run(folder_));
  ASSERT_EQ(plots.size(), 7u);
  EXPECT_EQ(plots[0].title, "Loss");
  EXPECT_EQ(plots[0].series.back().name, "held-out");
  EXPECT_EQ(plots[0].series.back().points.size(), 2u);
  EXPECT_EQ(plots[1].series[1].points[1].y, 2.5);  // ko, the second evaluation
  EXPECT_EQ(plots[0].marks, std::vector<double>{101});
  EXPECT_EQ(plots[4].level, 1.0);                         // the configured clipping norm
  EXPECT_EQ(plots[6].series.back().points.back().y, 25);  // 0.5 s of 2 s, in percent
}

TEST_F(Report, AHundredThousandStepsMakeASmallPage) {
  RunData run;
  run.name = "long";
  for (int step = 1; step <= 100000; ++step) run.metrics.steps.push_back(step_line(step));
  const std::string page = report_page(run);
  EXPECT_LT(page.size(), 200000u);
  EXPECT_EQ(markup_fault(page), "");
}

TEST_F(Report, RunWithNothingButNaNIsShown) {
  RunData run;
  run.name = "diverged";
  StepMetrics step;
  step.step = 1;
  run.metrics.steps = {step};
  const std::string page = report_page(run);
  EXPECT_EQ(markup_fault(page), "");
  EXPECT_NE(page.find("No step has been finished yet."), std::string::npos);
  EXPECT_EQ(page.find("nan"), std::string::npos);
  EXPECT_TRUE(to_json(run, summarize(run))["train_loss"].is_null());
}

TEST_F(Report, MetricsAloneAreEnough) {
  write("metrics.jsonl", metrics_line(step_line(1)) + "{\"step\": 2, \"tok");  // cut off by a kill
  const RunData run = read_run(folder_);
  EXPECT_EQ(run.name, folder_.filename().string());  // no config.resolved.yaml: the folder names the run
  EXPECT_EQ(summarize(run).steps, 1);
  EXPECT_EQ(markup_fault(report_page(run)), "");
}

TEST_F(Report, DamagedFilesAreRefusedByName) {
  const auto refusal = [&] {
    try {
      read_run(folder_);
    } catch (const UserError& error) {
      return std::filesystem::path(error.problems()[0].place.file).filename().string() + ":" +
             std::to_string(static_cast<int>(error.exit_code()));
    }
    return std::string("accepted");
  };
  EXPECT_EQ(refusal(), folder_.filename().string() + ":3");  // the folder has no metrics.jsonl
  write_run();
  EXPECT_EQ(refusal(), "accepted");
  write("samples.jsonl", "{\"text\": 3}\n");
  EXPECT_EQ(refusal(), "samples.jsonl:3");
  write("samples.jsonl", "[]\n");
  EXPECT_EQ(refusal(), "samples.jsonl:3");
  write_run();
  write("environment.json", "{\"a\": 1, \"a\": 2}");
  EXPECT_EQ(refusal(), "environment.json:3");
  write_run();
  write("config.resolved.yaml", "run: 3\n");
  EXPECT_EQ(refusal(), "config.resolved.yaml:2");
}

}  // namespace
}  // namespace terroir
