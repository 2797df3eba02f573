#include "trainer/report/report_page.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <cmath>

#include "trainer/report/html.h"
#include "trainer/report/report_style.h"
#include "trainer/report/run_plots.h"
#include "trainer/report/summary.h"
#include "trainer/report/ticks.h"

namespace terroir {
namespace {

using Facts = std::vector<std::pair<std::string, std::string>>;  // term, plain text

std::string percent(double share) {
  return std::isfinite(share) ? fmt::format("{:.1f} %", 100 * share) : "–";
}

std::string or_dash(const std::string& text) { return text.empty() ? "–" : escape_html(text); }

std::string tile(const char* label, const std::string& value) {
  return fmt::format("<div class=\"card tile\"><span class=\"soft\">{}</span><b>{}</b></div>\n", label,
                     value);
}

std::string tiles(const RunSummary& summary) {
  return "<div class=\"tiles\">\n" + tile("training loss, nats/token", human_number(summary.train_loss, 3)) +
         tile("held-out bits per byte", human_number(summary.validation_bits_per_byte, 3)) +
         tile("steps", human_count(static_cast<double>(summary.steps))) +
         tile("tokens trained on", human_count(static_cast<double>(summary.tokens))) +
         tile("time in steps", human_duration(summary.time_s)) +
         tile("tokens per second", human_count(summary.tokens_per_s)) +
         tile("of the measured peak (MFU)", percent(summary.mfu)) +
         tile("waiting for data", percent(summary.data_wait_share)) + "</div>\n";
}

std::string resume_note(const RunData& run) {
  if (run.metrics.resumed_at.empty()) return "";
  return fmt::format("<p class=\"soft\">Resumed at step {}: dashed vertical lines.</p>\n",
                     fmt::join(run.metrics.resumed_at, ", "));
}

std::string plot_card(const Plot& plot) {
  return fmt::format("<section class=\"card\"><h3>{}</h3><p class=\"soft\">{}</p>\n{}{}</section>\n",
                     escape_html(plot.title), plot.unit.empty() ? "&#160;" : escape_html(plot.unit),
                     svg_plot(plot), legend_html(plot));
}

std::string plot_cards(const RunData& run) {
  std::string cards;
  for (const Plot& plot : plots_of(run)) cards += plot_card(plot);
  if (cards.empty()) return "<p>No step has been finished yet.</p>\n";
  return "<div class=\"plots\">\n" + cards + "</div>\n" + resume_note(run);
}

std::string source_row(const SourceSummary& source) {
  std::string row = fmt::format(
      "<tr><td>{}</td><td class=\"word\">{}</td><td class=\"word\">{}</td><td>{}</td>",
      escape_html(source.name), or_dash(source.language), or_dash(source.license), percent(source.weight));
  for (const double value : {source.train_loss, source.train_bits_per_byte, source.last_validation_loss,
                             source.first_validation_bits_per_byte, source.last_validation_bits_per_byte})
    row += fmt::format("<td>{}</td>", human_number(value, 3));
  return row + "</tr>\n";
}

std::string source_table(const RunSummary& summary) {
  if (summary.sources.empty()) return "";
  std::string rows;
  for (const SourceSummary& source : summary.sources) rows += source_row(source);
  return fmt::format(
      "<h2>Sources</h2>\n<div class=\"card scroll\"><table>\n<tr><th>source</th><th "
      "class=\"word\">language</th>"
      "<th class=\"word\">licence</th><th>share</th><th>training loss</th><th>training<br/>bits/byte</th>"
      "<th>held-out loss</th><th>held-out<br/>bits/byte, first</th><th>held-out<br/>bits/byte, "
      "last</th></tr>\n{}"
      "</table></div>\n<p class=\"soft\">Loss: nats per token. Training: mean of the last {} steps that had "
      "the "
      "source.</p>\n",
      rows, kRecentSteps);
}

std::string sample_card(const Sample& sample) {
  std::string where = or_dash(sample.language);
  if (sample.step) where += fmt::format(", step {}", *sample.step);
  const std::string lang =
      sample.language.empty() ? "" : fmt::format(" lang=\"{}\"", escape_html(sample.language));
  return fmt::format(
      "<section class=\"card\"><span class=\"soft\">{}</span><p class=\"sample\" dir=\"auto\"{}><b>{}</b>"
      "{}</p></section>\n",
      where, lang, escape_html(sample.prompt), escape_html(sample.text));
}

std::string samples(const RunData& run) {
  if (run.samples.empty()) return "";
  std::string cards;
  for (const Sample& sample : run.samples) cards += sample_card(sample);
  return "<h2>What the model writes</h2>\n<p class=\"soft\">The prompt in bold, then the model.</p>\n"
         "<div class=\"samples\">\n" +
         cards + "</div>\n";
}

std::string facts_card(const char* title, const Facts& facts) {
  if (facts.empty()) return "";
  std::string items;
  for (const auto& [term, text] : facts)
    items += fmt::format("<dt>{}</dt><dd>{}</dd>\n", escape_html(term), escape_html(text));
  return fmt::format("<section class=\"card\"><h3>{}</h3><dl>\n{}</dl></section>\n", title, items);
}

Facts model_facts(const ModelConfig& model, bool vocab_size_known) {
  return {{"type", model.model_type},
          {"layers", std::to_string(model.num_hidden_layers)},
          {"hidden size", fmt::format("{}, SwiGLU {}", model.hidden_size, model.intermediate_size)},
          {"heads", fmt::format("{} of {}, {} for keys and values", model.num_attention_heads, model.head_dim,
                                model.num_key_value_heads)},
          {"vocabulary",
           fmt::format("{}{}", vocab_size_known ? std::to_string(model.vocab_size) : "the tokenizer's",
                       model.tie_word_embeddings ? ", embeddings tied" : "")},
          {"rotary base", fmt::format("{:g}{}", model.rope_theta,
                                      model.rope_scaling.rope_type == "default"
                                          ? ""
                                          : fmt::format(", {} x {:g}", model.rope_scaling.rope_type,
                                                        model.rope_scaling.factor))}};
}

Facts training_facts(const Config& config) {
  const OptimizerSection& optimizer = config.optimizer;
  const ParallelSection& parallel = config.parallel;
  return {{"batch", fmt::format("{} sequences of {} = {} tokens, in micro-batches of {}",
                                config.train.global_batch_size, config.data.sequence_length,
                                human_count(static_cast<double>(config.train.global_batch_size) *
                                            static_cast<double>(config.data.sequence_length)),
                                config.train.micro_batch_size)},
          {"steps", std::to_string(config.train.steps)},
          {"optimizer", fmt::format("{}, rate {:g}, betas {:g} and {:g}, decay {:g}, clip {:g}",
                                    optimizer.name, optimizer.lr, optimizer.beta1, optimizer.beta2,
                                    optimizer.weight_decay, optimizer.grad_clip)},
          {"schedule",
           fmt::format("{}, {} warm-up and {} decay steps, to {:g} of the rate", config.schedule.name,
                       config.schedule.warmup_steps, config.schedule.decay_steps, config.schedule.final_lr)},
          {"layout", fmt::format("tensor {} x pipeline {} x context {}, {}, ZeRO {}", parallel.tensor,
                                 parallel.pipeline, parallel.context, parallel.schedule, parallel.zero)},
          {"recompute", config.train.recompute},
          {"seed", std::to_string(config.run.seed)}};
}

// Every member, nested ones on one line: "tensor 2, data 1".
Facts environment_facts(const OrderedJson& environment) {
  Facts facts;
  if (!environment.is_object()) return facts;
  const auto text = [](const OrderedJson& value) {
    return value.is_string() ? value.get<std::string>() : value.dump();
  };
  for (const auto& [key, value] : environment.items()) {
    std::string line;
    if (value.is_object()) {
      for (const auto& [name, member] : value.items())
        line += fmt::format("{}{} {}", line.empty() ? "" : ", ", name, text(member));
    } else {
      line = text(value);
    }
    facts.emplace_back(key, line);
  }
  return facts;
}

Facts memory_facts(const MetricsHistory& metrics) {
  Facts facts;
  if (metrics.steps.empty()) return facts;
  for (const auto& [kind, bytes] : metrics.steps.back().memory_bytes)
    facts.emplace_back(kind, human_bytes(static_cast<double>(bytes)));
  return facts;
}

// Mean over the steps, and its share of all parts.
Facts part_facts(const MetricsHistory& metrics) {
  std::map<std::string, double> sums;
  double all = 0, num_steps = 0;
  for (const StepMetrics& step : metrics.steps) {
    num_steps += step.part_s.empty() ? 0 : 1;
    for (const auto& [part, seconds] : step.part_s) {
      sums[part] += seconds;
      all += seconds;
    }
  }
  Facts facts;
  for (const auto& [part, seconds] : sums)
    facts.emplace_back(part, fmt::format("{:.3g} s, {}", seconds / num_steps, percent(seconds / all)));
  return facts;
}

std::string run_facts(const RunData& run) {
  std::string cards;
  if (run.config) {
    cards += facts_card("Model", model_facts(run.config->model, !run.config->vocab_size_from_tokenizer));
    cards += facts_card("Training", training_facts(*run.config));
  }
  cards += facts_card("Machine", environment_facts(run.environment));
  cards += facts_card("A step on rank 0", part_facts(run.metrics));
  cards += facts_card("Memory of rank 0", memory_facts(run.metrics));
  return cards.empty() ? "" : "<h2>The run</h2>\n<div class=\"facts\">\n" + cards + "</div>\n";
}

std::string subtitle(const RunData& run) {
  if (!run.config) return "Training report";
  std::string sources;
  for (const auto& [name, weight] : run.config->data.stages.at(0).sources)
    sources += (sources.empty() ? "" : ", ") + name;
  return fmt::format("Training report: {} model of {} layers on {}", run.config->model.model_type,
                     run.config->model.num_hidden_layers, sources);
}

}  // namespace

std::string report_page(const RunData& run) {
  const RunSummary summary = summarize(run);
  const std::string name = escape_html(run.name);
  std::string page =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n";
  page += fmt::format("<title>{}: training report</title>\n<style>{}</style>\n</head>\n<body>\n<main>\n",
                      name, kReportStyle);
  page += fmt::format("<h1>{}</h1>\n<p class=\"soft\">{}</p>\n", name, escape_html(subtitle(run)));
  page += tiles(summary) + plot_cards(run) + source_table(summary) + samples(run) + run_facts(run);
  return page + "</main>\n</body>\n</html>\n";
}

}  // namespace terroir
