#include <gtest/gtest.h>

#include <bit>
#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "base/json.h"
#include "base/philox.h"
#include "tests/support/temporary_folder.h"
#include "trainer/metrics/event_file.h"
#include "trainer/metrics/metrics_line.h"
#include "trainer/metrics/metrics_reader.h"
#include "trainer/metrics/metrics_writer.h"
#include "trainer/metrics/prometheus.h"

namespace terroir {
namespace {

StepMetrics sample_step(std::int64_t step, double loss = 2.5) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.tokens = step * 1024;
  metrics.loss = loss;
  metrics.bits_per_byte = 1.25;
  metrics.loss_by_source = {{"ar", 0.1}, {"ko", 3.0000000000000004}};
  metrics.bits_per_byte_by_source = {{"ar", 1}, {"ko", 1.5}};
  metrics.learning_rate = 1e-3;
  metrics.grad_norm = 0.75;
  metrics.step_s = 0.5;
  metrics.tokens_per_s = 2048;
  metrics.mfu = 0.4;
  metrics.mfu_full_attention = 0.45;
  metrics.data_wait_s = 0;
  metrics.part_s = {{"backward", 0.25}, {"forward", 0.125}};
  metrics.memory_bytes = {{"parameters", 4096}};
  return metrics;
}

ValidationMetrics sample_validation(std::int64_t step) {
  ValidationMetrics metrics;
  metrics.step = step;
  metrics.tokens = step * 1024;
  metrics.loss = 2.75;
  metrics.bits_per_byte_by_source = {{"ko", 1.625}};
  return metrics;
}

class MetricsFolder : public testing::Test {
 protected:
  std::filesystem::path lines() const { return folder_ / "metrics.jsonl"; }
  TemporaryFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
};

TEST(MetricsLine, HasTheInterfacesKeysInOrderAndAllDigits) {
  EXPECT_EQ(
      metrics_line(sample_step(3)),
      R"({"step": 3, "tokens": 3072, "loss": 2.5, "bits_per_byte": 1.25, )"
      R"("loss_by_source": {"ar": 0.1, "ko": 3.0000000000000004}, )"
      R"("bits_per_byte_by_source": {"ar": 1, "ko": 1.5}, "learning_rate": 0.001, "grad_norm": 0.75, )"
      R"("step_s": 0.5, "tokens_per_s": 2048, "mfu": 0.4, "mfu_full_attention": 0.45, "data_wait_s": 0, )"
      R"("part_s": {"backward": 0.25, "forward": 0.125}, )"
      R"("memory_bytes": {"parameters": 4096}})"
      "\n");
  EXPECT_EQ(metrics_line(sample_validation(3)),
            R"({"split": "validation", "step": 3, "tokens": 3072, "loss": 2.75, "bits_per_byte": null, )"
            R"("loss_by_source": {}, "bits_per_byte_by_source": {"ko": 1.625}})"
            "\n");
}

TEST(MetricsLine, NumbersReadBackAsTheSameBits) {
  const PhiloxKey key = philox_key(5, "bits");
  for (std::uint64_t i = 0; i < 10000; ++i) {
    const double value = std::bit_cast<double>(philox_bits(key, i));
    if (!std::isfinite(value)) continue;
    EXPECT_EQ(std::bit_cast<std::uint64_t>(Json::parse(shortest_number(value)).get<double>()),
              std::bit_cast<std::uint64_t>(value));
  }
}

TEST(MetricsLine, NonFiniteNumbersAreNull) {
  EXPECT_EQ(shortest_number(std::numeric_limits<double>::quiet_NaN()), "null");
  EXPECT_EQ(shortest_number(std::numeric_limits<double>::infinity()), "null");
  EXPECT_NE(metrics_line(sample_step(1, kNotMeasured)).find("\"loss\": null"), std::string::npos);
}

TEST_F(MetricsFolder, WhatIsWrittenIsReadBack) {
  MetricsWriter writer(folder_, "test");
  writer.write(sample_step(1));
  writer.write(sample_validation(1));
  writer.write(sample_step(2, kNotMeasured));
  const MetricsHistory history = read_metrics(lines());
  ASSERT_EQ(history.steps.size(), 2u);
  EXPECT_EQ(metrics_line(history.steps[0]), metrics_line(sample_step(1)));
  EXPECT_TRUE(std::isnan(history.steps[1].loss));
  ASSERT_EQ(history.validation.size(), 1u);
  EXPECT_EQ(metrics_line(history.validation[0]), metrics_line(sample_validation(1)));
  EXPECT_TRUE(history.resumed_at.empty());
}

TEST_F(MetricsFolder, StepsWrittenAgainAfterAResumeCountOnceByTheirLastLine) {
  MetricsWriter writer(folder_, "test");
  for (const int step : {1, 2, 3, 4}) writer.write(sample_step(step, 10));
  MetricsWriter resumed(folder_, "test");
  for (const int step : {3, 4, 5}) resumed.write(sample_step(step, 20));
  const MetricsHistory history = read_metrics(lines());
  std::vector<double> losses;
  for (const StepMetrics& step : history.steps) losses.push_back(step.loss);
  EXPECT_EQ(losses, (std::vector<double>{10, 10, 20, 20, 20}));
  EXPECT_EQ(history.resumed_at, std::vector<std::int64_t>{3});
}

TEST_F(MetricsFolder, LineCutOffByAKillIsIgnoredAndReplaced) {
  std::ofstream(lines()) << metrics_line(sample_step(1)) << metrics_line(sample_step(2)).substr(0, 30);
  EXPECT_EQ(read_metrics(lines()).steps.size(), 1u);
  MetricsWriter(folder_, "test").write(sample_step(2));
  EXPECT_EQ(read_file(lines()), metrics_line(sample_step(1)) + metrics_line(sample_step(2)));
}

TEST_F(MetricsFolder, FileCutAnywhereIsReadable) {
  const std::string text = metrics_line(sample_step(1)) + metrics_line(sample_validation(1));
  for (std::size_t size = 0; size <= text.size(); size += 7) {
    std::ofstream(lines(), std::ios::trunc) << text.substr(0, size);
    EXPECT_EQ(read_metrics(lines()).steps.size(), size >= metrics_line(sample_step(1)).size() ? 1u : 0u);
  }
}

TEST_F(MetricsFolder, DamagedLineIsRefusedWithItsPlace) {
  const auto refusal = [&](const std::string& line) {
    std::ofstream(lines(), std::ios::trunc) << metrics_line(sample_step(1)) << line << "\n";
    try {
      read_metrics(lines());
    } catch (const UserError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kData);
      EXPECT_EQ(error.problems()[0].place.line, 2) << error.what();
      return error.problems()[0].place.key;
    }
    return std::string("accepted");
  };
  EXPECT_EQ(refusal("{\"step\": 1"), "");
  EXPECT_EQ(refusal("[]"), "");
  EXPECT_EQ(refusal(R"({"step": "x", "tokens": 1})"), "step");
  EXPECT_EQ(refusal(R"({"step": 1, "tokens": 1, "loss_by_source": 3})"), "loss_by_source");
  EXPECT_THROW(read_metrics(folder_ / "absent.jsonl"), UserError);
}

TEST_F(MetricsFolder, PrometheusFileHoldsTheLastStepAndIsWhole) {
  MetricsWriter writer(folder_, "a\"b");
  writer.write(sample_step(1));
  writer.write(sample_step(2, 2.25));
  const std::string text = read_file(folder_ / "metrics.prom");
  EXPECT_EQ(text, prometheus_text("a\"b", sample_step(2, 2.25)));
  EXPECT_NE(text.find("# TYPE terroir_loss_nats gauge\nterroir_loss_nats{run=\"a\\\"b\"} 2.25\n"),
            std::string::npos);
  EXPECT_NE(text.find("terroir_source_bits_per_byte{run=\"a\\\"b\",source=\"ko\"} 1.5\n"), std::string::npos);
  EXPECT_NE(text.find("terroir_part_seconds{run=\"a\\\"b\",part=\"forward\"} 0.125\n"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "metrics.prom.tmp"));
}

// The check value of CRC-32C: RFC 3720, appendix B.4, and the catalogue's "123456789".
TEST(EventFile, ChecksumIsCrc32c) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
}

TEST(EventFile, ScalarEventHasKnownBytes) {
  // wall_time 1.0 and step 300 (varint AC 02); summary of 10 bytes: value of 8: tag "a", simple_value 0.5.
  const std::string expected(
      "\x09\x00\x00\x00\x00\x00\x00\xF0\x3F"
      "\x10\xAC\x02"
      "\x2A\x0A\x0A\x08\x0A\x01"
      "a"
      "\x15\x00\x00\x00\x3F",
      24);
  EXPECT_EQ(scalar_event(1.0, 300, {{"a", 0.5}}), expected);
}

TEST_F(MetricsFolder, EventFileBeginsWithItsVersionAndEveryRecordIsChecked) {
  EventFile file(folder_);
  file.write(7, {{"train/loss", 2.0}});
  const std::string bytes = read_file(file.path());
  EXPECT_TRUE(file.path().filename().string().starts_with("events.out.tfevents."));
  std::vector<std::string> payloads;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto length =
        static_cast<std::size_t>(static_cast<unsigned char>(bytes[at]));  // all are below 256 here
    payloads.push_back(bytes.substr(at + 12, length));
    EXPECT_EQ(bytes.substr(at, length + 16), event_record(payloads.back()));
    at += length + 16;
  }
  ASSERT_EQ(payloads.size(), 2u);
  EXPECT_NE(payloads[0].find("brain.Event:2"), std::string::npos);
  EXPECT_NE(payloads[1].find("train/loss"), std::string::npos);
}

}  // namespace
}  // namespace terroir
