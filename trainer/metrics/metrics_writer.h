// Everything a run measures, into the run's folder: metrics.jsonl, metrics.prom and a TensorBoard event file.
#pragma once

#include <filesystem>
#include <string>

#include "base/handle.h"
#include "trainer/metrics/event_file.h"
#include "trainer/metrics/metrics.h"

namespace terroir {

// Used by one rank, rank 0. A line is in the file when write() returns, so that a kill loses at most the line
// being written; nothing is fsynced.
class MetricsWriter {
 public:
  // Opens `folder`/metrics.jsonl to append. A last line that was cut off by a kill is removed first: the
  // resumed run writes its step again. `run` labels metrics.prom. Throws SystemError.
  MetricsWriter(const std::filesystem::path& folder, const std::string& run);

  // Each throws SystemError (exit 5 when the disk is full).
  void write(const StepMetrics& metrics);
  void write(const ValidationMetrics& metrics);

 private:
  void append(const std::string& line);

  std::filesystem::path folder_;
  std::string run_;
  FileDescriptor lines_;
  EventFile events_;
};

}  // namespace terroir
