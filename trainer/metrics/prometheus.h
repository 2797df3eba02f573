// metrics.prom: the last step as gauges, for node_exporter's textfile collector.
#pragma once

#include <filesystem>
#include <string>

#include "trainer/metrics/metrics.h"

namespace terroir {

// Prometheus' text format. Every sample is labelled with the run's name.
std::string prometheus_text(const std::string& run, const StepMetrics& metrics);

// Writes under a temporary name and renames, so that a scrape never sees half a file. Not fsynced: it is out
// of date after a crash anyway. Throws SystemError.
void write_prometheus(const std::filesystem::path& path, const std::string& run, const StepMetrics& metrics);

}  // namespace terroir
