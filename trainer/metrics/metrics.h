// metrics.jsonl: what a run measured, one JSON object a line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

namespace terroir {

// One optimizer step.
struct StepMetrics {
  std::int64_t step = 0;    // steps complete, from 1
  std::int64_t tokens = 0;  // trained on so far
  double loss = 0;          // nats a target token
  double bits_per_byte = 0;
  std::map<std::string, double> loss_by_source, bits_per_byte_by_source;
  double learning_rate = 0;
  double grad_norm = 0;  // before clipping
  double step_s = 0, tokens_per_s = 0;
  double mfu = 0;         // share of the measured matrix multiplication peak
  double data_wait_s = 0;  // of step_s, waiting for the loader
  std::map<std::string, std::int64_t> memory_bytes;  // of rank 0, by kind
};

// Held-out loss; its line carries "split": "validation".
struct ValidationMetrics {
  std::int64_t step = 0, tokens = 0;
  double loss = 0, bits_per_byte = 0;
  std::map<std::string, double> loss_by_source, bits_per_byte_by_source;
};

// Appends to RUN/metrics.jsonl (and RUN/metrics.prom, RUN/events.out.tfevents.*), a line at a time, complete on return.
class MetricsWriter {
 public:
  explicit MetricsWriter(const std::filesystem::path& run_folder);
  ~MetricsWriter();
  MetricsWriter(MetricsWriter&&) noexcept;
  MetricsWriter& operator=(MetricsWriter&&) noexcept;
  void write(const StepMetrics& metrics);
  void write(const ValidationMetrics& metrics);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace terroir
