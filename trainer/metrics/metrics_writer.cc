#include "trainer/metrics/metrics_writer.h"

#include <fcntl.h>

#include <cerrno>
#include <cmath>

#include "base/file.h"
#include "trainer/metrics/metrics_line.h"
#include "trainer/metrics/prometheus.h"

namespace terroir {
namespace {

constexpr const char* kFile = "metrics.jsonl";

FileDescriptor open_lines(const std::filesystem::path& path) {
  if (std::filesystem::exists(path)) {
    const std::string text = read_file(path);
    const std::size_t complete = text.empty() ? 0 : text.rfind('\n') + 1;  // npos + 1 is 0
    if (complete < text.size()) std::filesystem::resize_file(path, complete);
  }
  FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!file) throw SystemError::from_errno("open", path.string(), errno);
  return file;
}

void add_if_finite(const std::string& tag, double value, std::vector<ScalarEvent>& out) {
  if (std::isfinite(value)) out.emplace_back(tag, value);
}

void add_losses(const std::string& split, const LossMetrics& metrics, std::vector<ScalarEvent>& out) {
  add_if_finite(split + "/loss", metrics.loss, out);
  add_if_finite(split + "/bits_per_byte", metrics.bits_per_byte, out);
  for (const auto& [source, value] : metrics.bits_per_byte_by_source)
    add_if_finite(split + "/bits_per_byte/" + source, value, out);
}

}  // namespace

MetricsWriter::MetricsWriter(const std::filesystem::path& folder, const std::string& run)
    : folder_(folder), run_(run), lines_(open_lines(folder / kFile)), events_(folder) {}

void MetricsWriter::write(const StepMetrics& metrics) {
  append(metrics_line(metrics));
  write_prometheus(folder_ / "metrics.prom", run_, metrics);
  std::vector<ScalarEvent> scalars;
  add_losses("train", metrics, scalars);
  add_if_finite("train/learning_rate", metrics.learning_rate, scalars);
  add_if_finite("train/grad_norm", metrics.grad_norm, scalars);
  add_if_finite("speed/tokens_per_s", metrics.tokens_per_s, scalars);
  add_if_finite("speed/mfu", metrics.mfu, scalars);
  add_if_finite("speed/data_wait_s", metrics.data_wait_s, scalars);
  for (const auto& [part, seconds] : metrics.part_s) add_if_finite("speed/part_s/" + part, seconds, scalars);
  events_.write(metrics.step, scalars);
}

void MetricsWriter::write(const ValidationMetrics& metrics) {
  append(metrics_line(metrics));
  std::vector<ScalarEvent> scalars;
  add_losses("validation", metrics, scalars);
  events_.write(metrics.step, scalars);
}

void MetricsWriter::append(const std::string& line) {
  std::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t written = ::write(lines_.get(), rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw SystemError::from_errno("write", (folder_ / kFile).string(), errno);
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace terroir
