// All that a report tells about a run, read from its folder.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "trainer/config/config.h"
#include "trainer/metrics/metrics_reader.h"

namespace terroir {

// A line of samples.jsonl: what the model wrote behind a prompt.
struct Sample {
  std::string language;
  std::string prompt;
  std::string text;  // without the prompt
  std::optional<std::int64_t> step;
};

struct RunData {
  std::string name;  // of the run, or of its folder
  MetricsHistory metrics;
  std::optional<Config> config;  // config.resolved.yaml, where there is one
  OrderedJson environment;       // environment.json; null where there is none
  std::vector<Sample> samples;   // samples.jsonl, where there is one
};

// Throws UserError: without metrics.jsonl (exit 3), or for a file that is damaged.
RunData read_run(const std::filesystem::path& folder);

}  // namespace terroir
