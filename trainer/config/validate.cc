#include "trainer/config/validate.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <numeric>

#include "trainer/config/suggest.h"

namespace terroir {
namespace {

class Rules {
 public:
  template <class... Args>
  void require(bool holds, std::vector<std::string> keys, fmt::format_string<Args...> message,
               Args&&... args) {
    if (!holds) broken_.push_back({std::move(keys), fmt::format(message, std::forward<Args>(args)...)});
  }
  std::vector<BrokenRule> take() { return std::move(broken_); }

 private:
  std::vector<BrokenRule> broken_;
};

void check_run(const Config& config, Rules& rules) {
  const std::string& name = config.run.name;
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.' || c >= 0x80;
  });
  rules.require(
      plain && !name.starts_with('.') && !name.starts_with('-'), {"run.name"},
      "\"{}\" is no plain folder name: use letters, digits, -, _ and ., beginning with a letter or digit",
      name);
}

void check_heads(const Config& config, Rules& rules) {
  const ModelConfig& model = config.model;
  if (model.head_dim == 0) {
    const std::int64_t heads = model.num_attention_heads;
    rules.require(
        model.hidden_size % heads == 0, {"model.hidden_size", "model.num_attention_heads", "model.head_dim"},
        "{} is not a multiple of model.num_attention_heads ({}): change one, or give model.head_dim",
        model.hidden_size, heads);
    rules.require(model.hidden_size % heads != 0 || model.hidden_size / heads % 2 == 0,
                  {"model.hidden_size", "model.num_attention_heads", "model.head_dim"},
                  "{} / {} heads is a head of {}: rotary embedding needs an even size", model.hidden_size,
                  heads, model.hidden_size / heads);
  }
  rules.require(model.head_dim % 2 == 0, {"model.head_dim"}, "{} is odd: rotary embedding needs an even size",
                model.head_dim);
  rules.require(model.num_attention_heads % model.num_key_value_heads == 0,
                {"model.num_key_value_heads", "model.num_attention_heads"},
                "{} does not divide model.num_attention_heads ({}): give a divisor",
                model.num_key_value_heads, model.num_attention_heads);
}

void check_positions(const Config& config, Rules& rules) {
  const ModelConfig& model = config.model;
  rules.require(
      model.max_position_embeddings == 0 || model.max_position_embeddings >= config.data.sequence_length,
      {"model.max_position_embeddings", "data.sequence_length"},
      "{} is less than data.sequence_length ({}): raise it, or give 0", model.max_position_embeddings,
      config.data.sequence_length);
  const RopeScalingConfig& scaling = model.rope_scaling;
  const std::string section = "model.rope_scaling.";
  if (scaling.rope_type == "default") {
    rules.require(
        scaling == RopeScalingConfig{}, {section + "rope_type"},
        "without scaling the section's other keys do nothing: give rope_type: llama3, or rope_scaling: null");
  } else {
    rules.require(scaling.low_freq_factor < scaling.high_freq_factor,
                  {section + "low_freq_factor", section + "high_freq_factor"},
                  "{} is not below high_freq_factor ({}): between the two, scaling goes from full to none",
                  scaling.low_freq_factor, scaling.high_freq_factor);
  }
}

void check_mixture(const Config& config, Rules& rules) {
  std::vector<std::string> names;
  for (const auto& [name, source] : config.data.sources) names.push_back(name);
  for (std::size_t i = 0; i < config.data.stages.size(); ++i) {
    const std::string stage = fmt::format("data.stages.{}", i);
    rules.require(i == 0, {stage}, "several mixtures over a run are planned but not built: keep one");
    double sum = 0;
    for (const auto& [name, weight] : config.data.stages[i].sources) {
      sum += weight;
      const std::string nearest = nearest_word(name, names);
      rules.require(config.data.sources.contains(name), {stage + ".sources." + name, "data.sources"},
                    "no such source in data.sources{}",
                    nearest.empty() ? fmt::format(": it has {}", fmt::join(names, ", "))
                                    : fmt::format(": did you mean {}?", nearest));
    }
    rules.require(sum > 0, {stage + ".sources"}, "the weights' sum is 0: give one source a weight above 0");
    rules.require(std::isfinite(sum), {stage + ".sources"},
                  "the weights' sum is not finite: give smaller weights");
  }
}

void check_layout(const Config& config, Rules& rules) {
  const ParallelSection& parallel = config.parallel;
  const std::int64_t layers = config.model.num_hidden_layers;
  rules.require(config.model.num_attention_heads % parallel.tensor == 0,
                {"parallel.tensor", "model.num_attention_heads"},
                "{} tensor ranks do not divide model.num_attention_heads ({}): give a divisor",
                parallel.tensor, config.model.num_attention_heads);
  rules.require(parallel.pipeline <= layers, {"parallel.pipeline", "model.num_hidden_layers"},
                "{} stages are more than model.num_hidden_layers ({}): give at most that", parallel.pipeline,
                layers);
  const std::vector<std::int64_t>& stages = parallel.layers_per_stage;
  if (stages.empty()) return;
  rules.require(static_cast<std::int64_t>(stages.size()) == parallel.pipeline,
                {"parallel.layers_per_stage", "parallel.pipeline"},
                "{} entries for parallel.pipeline = {} stages: give one for each", stages.size(),
                parallel.pipeline);
  const std::int64_t sum = std::accumulate(stages.begin(), stages.end(), std::int64_t{0});
  rules.require(sum == layers, {"parallel.layers_per_stage", "model.num_hidden_layers"},
                "{} = {} layers, and model.num_hidden_layers is {}: make them equal",
                fmt::join(stages, " + "), sum, layers);
}

void check_training(const Config& config, Rules& rules) {
  const TrainSection& train = config.train;
  rules.require(train.global_batch_size % train.micro_batch_size == 0,
                {"train.micro_batch_size", "train.global_batch_size"},
                "{} does not divide train.global_batch_size ({}): give a divisor", train.micro_batch_size,
                train.global_batch_size);
  const ScheduleSection& schedule = config.schedule;
  rules.require(schedule.decay_steps == 0 || schedule.name == "wsd",
                {"schedule.decay_steps", "schedule.name"},
                "only schedule.name = wsd has decay steps, and it is {}: give 0", schedule.name);
  rules.require(schedule.warmup_steps + schedule.decay_steps <= train.steps,
                {"schedule.warmup_steps", "schedule.decay_steps", "train.steps"},
                "{} warm-up + {} decay steps are more than train.steps ({}): give fewer",
                schedule.warmup_steps, schedule.decay_steps, train.steps);
}

void check_precision(const PrecisionSection& precision, Rules& rules) {
  const auto needs_bf16 = [&](const char* key, const std::string& value) {
    rules.require(value == "f32" || precision.compute == "bf16", {key, "precision.compute"},
                  "bf16 needs bf16 weights in layers: give precision.compute=bf16 too ({} now)",
                  precision.compute);
  };
  needs_bf16("precision.master", precision.master);
  needs_bf16("precision.gradients", precision.gradients);
  rules.require(precision.gradients == "f32" || precision.reduction == "bf16",
                {"precision.gradients", "precision.reduction"},
                "gradients that are kept in bf16 are reduced in it: give precision.reduction=bf16 too");
}

}  // namespace

std::vector<BrokenRule> broken_rules(const Config& config) {
  Rules rules;
  check_run(config, rules);
  check_heads(config, rules);
  check_positions(config, rules);
  check_mixture(config, rules);
  check_layout(config, rules);
  check_training(config, rules);
  check_precision(config.precision, rules);
  return rules.take();
}

std::vector<BrokenRule> broken_world_rules(const Config& config, int world_size) {
  Rules rules;
  const ParallelSection& parallel = config.parallel;
  const std::int64_t model_ranks = std::int64_t{parallel.tensor} * parallel.pipeline * parallel.context;
  const std::vector<std::string> layout = {"parallel", "parallel.tensor", "parallel.pipeline",
                                           "parallel.context"};
  rules.require(
      world_size >= model_ranks && world_size % model_ranks == 0, layout,
      "{} ranks are not a multiple of tensor {} x pipeline {} x context {} = {}: start a multiple of {} "
      "ranks, or change the layout",
      world_size, parallel.tensor, parallel.pipeline, parallel.context, model_ranks, model_ranks);
  const std::int64_t data_ranks = world_size / model_ranks;
  if (data_ranks == 0 || world_size % model_ranks != 0) return rules.take();
  const TrainSection& train = config.train;
  const bool micro_divides =
      train.global_batch_size % train.micro_batch_size == 0;  // else said by broken_rules()
  rules.require(
      !micro_divides || train.global_batch_size % (data_ranks * train.micro_batch_size) == 0,
      {"train.global_batch_size", "train.micro_batch_size", "parallel.tensor", "parallel.pipeline"},
      "{} is not a multiple of {} data ranks x train.micro_batch_size {} = {}: change one ({} ranks = "
      "tensor {} x pipeline {} x context {} x data {})",
      train.global_batch_size, data_ranks, train.micro_batch_size, data_ranks * train.micro_batch_size,
      world_size, parallel.tensor, parallel.pipeline, parallel.context, data_ranks);
  return rules.take();
}

}  // namespace terroir
