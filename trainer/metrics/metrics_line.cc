#include "trainer/metrics/metrics_line.h"

#include <charconv>
#include <cmath>

#include "base/json.h"

namespace terroir {
namespace {

std::string json_text(double value) { return shortest_number(value); }
std::string json_text(std::int64_t value) { return std::to_string(value); }

template <class Value>
std::string json_text(const std::map<std::string, Value>& values) {
  std::string text = "{";
  for (const auto& [name, value] : values)
    text += fmt::format("{}{}: {}", text.size() > 1 ? ", " : "", Json(name).dump(), json_text(value));
  return text + "}";
}

// Builds {"key": value, ...} in the order of the calls.
class LineWriter {
 public:
  template <class Value>
  LineWriter& add(const char* key, const Value& value) {
    return add_text(key, json_text(value));
  }
  LineWriter& add_text(const char* key, const std::string& json) {
    text_ += fmt::format("{}\"{}\": {}", text_.empty() ? "{" : ", ", key, json);
    return *this;
  }
  LineWriter& add_losses(const LossMetrics& losses) {
    return add("loss", losses.loss)
        .add("bits_per_byte", losses.bits_per_byte)
        .add("loss_by_source", losses.loss_by_source)
        .add("bits_per_byte_by_source", losses.bits_per_byte_by_source);
  }
  std::string take() { return std::move(text_) + "}\n"; }

 private:
  std::string text_;
};

}  // namespace

std::string shortest_number(double value, const char* not_finite) {
  if (!std::isfinite(value)) return not_finite;
  char buffer[32];  // the longest shortest form of a double has 24 characters
  return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
}

std::string metrics_line(const StepMetrics& metrics) {
  return LineWriter()
      .add("step", metrics.step)
      .add("tokens", metrics.tokens)
      .add_losses(metrics)
      .add("learning_rate", metrics.learning_rate)
      .add("grad_norm", metrics.grad_norm)
      .add("step_s", metrics.step_s)
      .add("tokens_per_s", metrics.tokens_per_s)
      .add("mfu", metrics.mfu)
      .add("mfu_full_attention", metrics.mfu_full_attention)
      .add("data_wait_s", metrics.data_wait_s)
      .add("part_s", metrics.part_s)
      .add("memory_bytes", metrics.memory_bytes)
      .take();
}

std::string metrics_line(const ValidationMetrics& metrics) {
  return LineWriter()
      .add_text("split", "\"validation\"")
      .add("step", metrics.step)
      .add("tokens", metrics.tokens)
      .add_losses(metrics)
      .take();
}

}  // namespace terroir
