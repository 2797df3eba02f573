#include "trainer/report/summary.h"

#include <cmath>
#include <set>

namespace terroir {
namespace {

class Mean {
 public:
  void add(double value) {
    if (!std::isfinite(value)) return;
    sum_ += value;
    ++count_;
  }
  std::size_t count() const { return count_; }
  double value() const { return count_ == 0 ? kNotMeasured : sum_ / static_cast<double>(count_); }

 private:
  double sum_ = 0;
  std::size_t count_ = 0;
};

double value_of(const std::map<std::string, double>& values, const std::string& name) {
  const auto found = values.find(name);
  return found == values.end() ? kNotMeasured : found->second;
}

// Mean of the last kRecentSteps finite values that `value` gives.
template <class Value>
double recent_mean(const std::vector<StepMetrics>& steps, Value value) {
  Mean mean;
  for (auto step = steps.rbegin(); step != steps.rend() && mean.count() < kRecentSteps; ++step)
    mean.add(value(*step));
  return mean.value();
}

std::set<std::string> source_names(const RunData& run) {
  std::set<std::string> names;
  if (run.config)
    for (const auto& [name, source] : run.config->data.sources) names.insert(name);
  const auto add = [&](const LossMetrics& losses) {
    for (const auto& [name, loss] : losses.loss_by_source) names.insert(name);
    for (const auto& [name, bits] : losses.bits_per_byte_by_source) names.insert(name);
  };
  for (const StepMetrics& step : run.metrics.steps) add(step);
  for (const ValidationMetrics& validation : run.metrics.validation) add(validation);
  return names;
}

void add_configuration(const Config& config, SourceSummary& source) {
  if (const auto found = config.data.sources.find(source.name); found != config.data.sources.end()) {
    source.language = found->second.language;
    source.license = found->second.license;
  }
  if (config.data.stages.empty()) return;
  double sum = 0;
  for (const auto& [name, weight] : config.data.stages[0].sources) sum += weight;
  const auto& weights = config.data.stages[0].sources;
  const auto found = weights.find(source.name);
  source.weight = found == weights.end() ? 0 : found->second / sum;
}

SourceSummary summarize_source(const RunData& run, const std::string& name) {
  SourceSummary source;
  source.name = name;
  if (run.config) add_configuration(*run.config, source);
  source.train_loss = recent_mean(
      run.metrics.steps, [&](const StepMetrics& step) { return value_of(step.loss_by_source, name); });
  source.train_bits_per_byte = recent_mean(run.metrics.steps, [&](const StepMetrics& step) {
    return value_of(step.bits_per_byte_by_source, name);
  });
  if (!run.metrics.validation.empty()) {
    const ValidationMetrics& first = run.metrics.validation.front();
    const ValidationMetrics& last = run.metrics.validation.back();
    source.first_validation_bits_per_byte = value_of(first.bits_per_byte_by_source, name);
    source.last_validation_loss = value_of(last.loss_by_source, name);
    source.last_validation_bits_per_byte = value_of(last.bits_per_byte_by_source, name);
  }
  return source;
}

void summarize_speed(const std::vector<StepMetrics>& steps, RunSummary& summary) {
  Mean mfu, wait_s;
  double timed_tokens = 0;
  for (const StepMetrics& step : steps) {
    mfu.add(step.mfu);
    if (!std::isfinite(step.step_s)) continue;
    summary.time_s += step.step_s;
    wait_s.add(step.data_wait_s);
    if (std::isfinite(step.tokens_per_s)) timed_tokens += step.tokens_per_s * step.step_s;
  }
  summary.mfu = mfu.value();
  if (summary.time_s <= 0) return;
  summary.tokens_per_s = timed_tokens / summary.time_s;
  summary.data_wait_share = wait_s.value() * static_cast<double>(wait_s.count()) / summary.time_s;
}

OrderedJson number(double value) { return std::isfinite(value) ? OrderedJson(value) : OrderedJson(nullptr); }

OrderedJson to_json(const SourceSummary& source) {
  return {{"language", source.language},
          {"license", source.license},
          {"weight", number(source.weight)},
          {"train_loss", number(source.train_loss)},
          {"train_bits_per_byte", number(source.train_bits_per_byte)},
          {"first_validation_bits_per_byte", number(source.first_validation_bits_per_byte)},
          {"validation_loss", number(source.last_validation_loss)},
          {"validation_bits_per_byte", number(source.last_validation_bits_per_byte)}};
}

}  // namespace

RunSummary summarize(const RunData& run) {
  RunSummary summary;
  const std::vector<StepMetrics>& steps = run.metrics.steps;
  if (!steps.empty()) {
    summary.steps = steps.back().step;
    summary.tokens = steps.back().tokens;
  }
  summarize_speed(steps, summary);
  summary.train_loss = recent_mean(steps, [](const StepMetrics& step) { return step.loss; });
  summary.train_bits_per_byte =
      recent_mean(steps, [](const StepMetrics& step) { return step.bits_per_byte; });
  if (!run.metrics.validation.empty()) {
    summary.validation_loss = run.metrics.validation.back().loss;
    summary.validation_bits_per_byte = run.metrics.validation.back().bits_per_byte;
  }
  for (const std::string& name : source_names(run)) summary.sources.push_back(summarize_source(run, name));
  return summary;
}

OrderedJson to_json(const RunData& run, const RunSummary& summary) {
  OrderedJson json = {{"run", run.name},
                      {"steps", summary.steps},
                      {"tokens", summary.tokens},
                      {"time_s", number(summary.time_s)},
                      {"tokens_per_s", number(summary.tokens_per_s)},
                      {"mfu", number(summary.mfu)},
                      {"data_wait_share", number(summary.data_wait_share)},
                      {"train_loss", number(summary.train_loss)},
                      {"train_bits_per_byte", number(summary.train_bits_per_byte)},
                      {"validation_loss", number(summary.validation_loss)},
                      {"validation_bits_per_byte", number(summary.validation_bits_per_byte)},
                      {"resumed_at", run.metrics.resumed_at}};
  json["sources"] = OrderedJson::object();
  for (const SourceSummary& source : summary.sources) json["sources"][source.name] = to_json(source);
  return json;
}

}  // namespace terroir
