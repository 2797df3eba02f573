// What is measured: one StepMetrics per optimizer step, one ValidationMetrics per evaluation on held-out
// text.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>

namespace terroir {

inline constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();

// Losses are nats per target token, summed over the tokens of the global batch and divided by their number. A
// source without tokens in the step is absent from the maps. NaN means not measured (or not finite); it is
// written as null.
struct LossMetrics {
  double loss = kNotMeasured;
  double bits_per_byte = kNotMeasured;
  std::map<std::string, double> loss_by_source;
  std::map<std::string, double> bits_per_byte_by_source;
};

struct StepMetrics : LossMetrics {
  std::int64_t step = 0;    // optimizer steps done, this one included
  std::int64_t tokens = 0;  // trained on since the run began
  double learning_rate = kNotMeasured;
  double grad_norm = kNotMeasured;  // before clipping
  double step_s = kNotMeasured;
  double tokens_per_s = kNotMeasured;
  double mfu = kNotMeasured;                 // model FLOPs per second over the measured peak of all ranks
  double mfu_full_attention = kNotMeasured;  // as if every token saw every other
  double data_wait_s = kNotMeasured;         // of step_s, spent waiting for the loader
  std::map<std::string, double> part_s;  // part of a step -> seconds on the device of the rank that writes
  std::map<std::string, std::int64_t> memory_bytes;  // kind -> bytes of the rank that writes
};

struct ValidationMetrics : LossMetrics {
  std::int64_t step = 0;
  std::int64_t tokens = 0;  // trained on when it was measured
};

}  // namespace terroir
