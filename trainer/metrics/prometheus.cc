#include "trainer/metrics/prometheus.h"

#include <fstream>

#include "base/error.h"
#include "trainer/metrics/metrics_line.h"

namespace terroir {
namespace {

std::string label_value(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\' || c == '"') escaped += '\\';
    escaped += c == '\n' ? ' ' : c;
  }
  return escaped;
}

class GaugeWriter {
 public:
  explicit GaugeWriter(const std::string& run) : run_(label_value(run)) {}

  void begin(const char* name, const char* help) {
    name_ = name;
    text_ += fmt::format("# HELP terroir_{} {}\n# TYPE terroir_{} gauge\n", name, help, name);
  }
  void sample(double value) { add("", value); }
  void sample(const char* label, const std::string& label_text, double value) {
    add(fmt::format(",{}=\"{}\"", label, label_value(label_text)), value);
  }
  std::string take() { return std::move(text_); }

 private:
  void add(const std::string& more_labels, double value) {
    text_ += fmt::format("terroir_{}{{run=\"{}\"{}}} {}\n", name_, run_, more_labels,
                         shortest_number(value, "NaN"));
  }
  std::string run_, name_, text_;
};

}  // namespace

std::string prometheus_text(const std::string& run, const StepMetrics& metrics) {
  GaugeWriter out(run);
  const auto gauge = [&](const char* name, const char* help, double value) {
    out.begin(name, help);
    out.sample(value);
  };
  gauge("step", "Optimizer steps done.", static_cast<double>(metrics.step));
  gauge("tokens", "Tokens trained on.", static_cast<double>(metrics.tokens));
  gauge("loss_nats", "Mean loss of the last step, nats per token.", metrics.loss);
  gauge("bits_per_byte", "Bits per byte of the last step.", metrics.bits_per_byte);
  out.begin("source_bits_per_byte", "Bits per byte of the last step, by source.");
  for (const auto& [source, value] : metrics.bits_per_byte_by_source) out.sample("source", source, value);
  gauge("learning_rate", "Learning rate of the last step.", metrics.learning_rate);
  gauge("grad_norm", "Global gradient norm before clipping.", metrics.grad_norm);
  gauge("step_seconds", "Duration of the last step.", metrics.step_s);
  gauge("tokens_per_second", "Training throughput over all ranks.", metrics.tokens_per_s);
  gauge("mfu", "Model FLOPs utilization, 0 to 1.", metrics.mfu);
  gauge("mfu_full_attention", "The same, as if every token saw every other.", metrics.mfu_full_attention);
  gauge("data_wait_seconds", "Part of the last step spent waiting for data.", metrics.data_wait_s);
  out.begin("part_seconds", "Parts of the last step on the device of the writing rank.");
  for (const auto& [part, seconds] : metrics.part_s) out.sample("part", part, seconds);
  out.begin("memory_bytes", "Memory of the writing rank, by kind.");
  for (const auto& [kind, bytes] : metrics.memory_bytes) out.sample("kind", kind, static_cast<double>(bytes));
  return out.take();
}

void write_prometheus(const std::filesystem::path& path, const std::string& run, const StepMetrics& metrics) {
  const std::filesystem::path temporary = path.string() + ".tmp";
  std::ofstream file(temporary, std::ios::binary);
  file << prometheus_text(run, metrics);
  file.close();
  if (!file) throw SystemError::from_errno("write", temporary.string(), errno);
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  if (error) throw SystemError("rename " + path.string(), error.message());
}

}  // namespace terroir
