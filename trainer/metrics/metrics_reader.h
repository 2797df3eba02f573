// metrics.jsonl, read back.
#pragma once

#include <filesystem>
#include <vector>

#include "trainer/metrics/metrics.h"

namespace terroir {

struct MetricsHistory {
  std::vector<StepMetrics> steps;  // by step, one each: of a step written several times the last line
  std::vector<ValidationMetrics> validation;  // the same
  // Steps at which a run went on from a checkpoint: the first step that was written again. In file order.
  std::vector<std::int64_t> resumed_at;
};

// A last line without its newline was cut off by a kill and is left out. Any other line that is not a metrics
// object is a UserError (exit 3) with its place; unknown keys are ignored.
MetricsHistory read_metrics(const std::filesystem::path& path);

}  // namespace terroir
