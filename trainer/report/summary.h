// A run in numbers: what the page shows in its tiles and tables, and what `report --json` prints.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "trainer/report/run_data.h"

namespace terroir {

struct SourceSummary {
  std::string name;
  std::string language, license;     // empty: not said
  double weight = kNotMeasured;      // share of the mixture, 0 to 1
  double train_loss = kNotMeasured;  // mean of the last kRecentSteps steps that had the source
  double train_bits_per_byte = kNotMeasured;
  double first_validation_bits_per_byte = kNotMeasured;
  double last_validation_loss = kNotMeasured;
  double last_validation_bits_per_byte = kNotMeasured;
};

inline constexpr std::size_t kRecentSteps = 10;

struct RunSummary {
  std::int64_t steps = 0, tokens = 0;
  double time_s = 0;                      // sum of the steps' durations
  double tokens_per_s = kNotMeasured;     // over the whole run
  double mfu = kNotMeasured;              // mean over steps
  double data_wait_share = kNotMeasured;  // of the time, 0 to 1
  double train_loss = kNotMeasured;       // mean of the last kRecentSteps steps
  double train_bits_per_byte = kNotMeasured;
  double validation_loss = kNotMeasured;  // the last
  double validation_bits_per_byte = kNotMeasured;
  std::vector<SourceSummary> sources;  // every source of the configuration or of any line, by name
};

RunSummary summarize(const RunData& run);

// NaN becomes null.
OrderedJson to_json(const RunData& run, const RunSummary& summary);

}  // namespace terroir
