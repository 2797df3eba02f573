// One line of metrics.jsonl.
#pragma once

#include <string>

#include "trainer/metrics/metrics.h"

namespace terroir {

// A JSON object and a newline, keys in the order of docs/formats/metrics.md; numbers with the fewest digits
// that read back as the same double.
std::string metrics_line(const StepMetrics& metrics);
std::string metrics_line(const ValidationMetrics& metrics);

// The fewest digits that read back as the same double; `not_finite` for NaN and infinities.
std::string shortest_number(double value, const char* not_finite = "null");

}  // namespace terroir
