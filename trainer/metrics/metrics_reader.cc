#include "trainer/metrics/metrics_reader.h"

#include "base/file.h"
#include "base/json.h"

namespace terroir {
namespace {

// One line's object, and the place its errors name.
struct Line {
  Json object;
  Place place;

  std::int64_t integer(const char* key) const {
    return json_at<std::int64_t>(object, key, place, ExitCode::kData);
  }
  // NaN when absent or null.
  double number(const char* key) const {
    if (!object.contains(key) || object.at(key).is_null()) return kNotMeasured;
    return json_at<double>(object, key, place, ExitCode::kData);
  }
  template <class Value>
  std::map<std::string, Value> numbers(const char* key) const {
    std::map<std::string, Value> values;
    if (!object.contains(key)) return values;
    const Json& member = object.at(key);
    Place inside = place;
    inside.key = key;
    if (!member.is_object()) throw UserError(ExitCode::kData, inside, "expected an object of numbers");
    for (const auto& [name, value] : member.items())
      if (!value.is_null()) values[name] = json_at<Value>(member, name, inside, ExitCode::kData);
    return values;
  }
};

void read_losses(const Line& line, LossMetrics& out) {
  out.loss = line.number("loss");
  out.bits_per_byte = line.number("bits_per_byte");
  out.loss_by_source = line.numbers<double>("loss_by_source");
  out.bits_per_byte_by_source = line.numbers<double>("bits_per_byte_by_source");
}

StepMetrics read_step(const Line& line) {
  StepMetrics metrics;
  read_losses(line, metrics);
  metrics.step = line.integer("step");
  metrics.tokens = line.integer("tokens");
  metrics.learning_rate = line.number("learning_rate");
  metrics.grad_norm = line.number("grad_norm");
  metrics.step_s = line.number("step_s");
  metrics.tokens_per_s = line.number("tokens_per_s");
  metrics.mfu = line.number("mfu");
  metrics.mfu_full_attention = line.number("mfu_full_attention");
  metrics.data_wait_s = line.number("data_wait_s");
  metrics.part_s = line.numbers<double>("part_s");
  metrics.memory_bytes = line.numbers<std::int64_t>("memory_bytes");
  return metrics;
}

ValidationMetrics read_validation(const Line& line) {
  ValidationMetrics metrics;
  read_losses(line, metrics);
  metrics.step = line.integer("step");
  metrics.tokens = line.integer("tokens");
  return metrics;
}

template <class Metrics>
std::vector<Metrics> values_of(std::map<std::int64_t, Metrics> by_step) {
  std::vector<Metrics> values;
  values.reserve(by_step.size());
  for (auto& [step, metrics] : by_step) values.push_back(std::move(metrics));
  return values;
}

}  // namespace

MetricsHistory read_metrics(const std::filesystem::path& path) {
  const std::string text = read_file(path, ExitCode::kData);
  MetricsHistory history;
  std::map<std::int64_t, StepMetrics> steps;
  std::map<std::int64_t, ValidationMetrics> validation;
  std::int64_t last_step = 0;
  int number = 1;
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos;
       begin = end + 1, ++number) {
    const std::string_view line_text(text.data() + begin, end - begin);
    const Line line{parse_json(line_text, path.string(), ExitCode::kData, {}, number),
                    Place{path.string(), number}};
    if (!line.object.is_object()) throw UserError(ExitCode::kData, line.place, "expected a JSON object");
    if (line.object.contains("split")) {
      const ValidationMetrics metrics = read_validation(line);
      validation[metrics.step] = metrics;
    } else {
      const StepMetrics metrics = read_step(line);
      if (metrics.step <= last_step) history.resumed_at.push_back(metrics.step);
      last_step = metrics.step;
      steps[metrics.step] = metrics;
    }
  }
  history.steps = values_of(std::move(steps));
  history.validation = values_of(std::move(validation));
  return history;
}

}  // namespace terroir
