#include "trainer/step/run_folder.h"

#include <algorithm>

#include "base/hash.h"
#include "parallel/text.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/config/config_file.h"

namespace terroir {
namespace fs = std::filesystem;

fs::path RunFolder::log(int rank) const { return root / "log" / fmt::format("rank-{:05d}.log", rank); }

RunFolder run_folder(const Config& config) { return {fs::path(config.run.dir) / config.run.name}; }

namespace {

fs::path newest_or_refuse(const RunFolder& folder, Logger* log) {
  std::string reasons;
  const auto newest =
      newest_valid_checkpoint(folder.checkpoints(), [&](const fs::path& path, const std::string& why) {
        if (log != nullptr) log->warn("{} is passed over: {}", path.string(), why);
        reasons += fmt::format("; {}: {}", path.filename().string(), why);
      });
  if (!newest && !reasons.empty())
    throw UserError(
        ExitCode::kCheckpoint, Place{folder.checkpoints().string()},
        "no checkpoint here can be read: mend or remove them, or choose another run.name" + reasons);
  return newest.value_or(fs::path());
}

}  // namespace

void refuse_used_folder(const RunFolder& folder, const Config& config, int rank) {
  if (rank != 0 || config.checkpoint.resume != "never") return;
  if (fs::exists(folder.root) && !fs::is_empty(folder.root))
    throw UserError(ExitCode::kUsage, Place{folder.root.string(), 0, 0, "checkpoint.resume"},
                    "never: this folder is not empty; choose another run.name, or resume with auto");
}

StartPoint find_start_point(const RunFolder& folder, const Config& config, Communicator& control,
                            Logger* log) {
  const bool leader = control.rank() == 0;
  fs::path resume, init_from;
  if (config.checkpoint.resume == "auto" && leader) resume = newest_or_refuse(folder, log);
  resume = broadcast_text(resume.string(), control, "start point");
  if (!resume.empty()) return {.resume = resume, .init_from = {}};
  if (config.init_from.empty()) return {};
  if (leader) init_from = resolve_checkpoint(config.init_from);
  return {.resume = {}, .init_from = broadcast_text(init_from.string(), control, "start point")};
}

std::optional<FileLock> open_run_folder(const RunFolder& folder, int rank) {
  if (rank != 0) return std::nullopt;
  terroir::create_directories(folder.root / "log");
  terroir::create_directories(folder.checkpoints());
  std::optional<FileLock> lock(std::in_place, folder.root / ".lock");
  std::error_code ignored;
  fs::remove(folder.root / "STOP", ignored);  // of an earlier run
  return lock;
}

void write_run_description(const RunFolder& folder, const Config& config, const OrderedJson& environment) {
  write_file_atomically(folder.root / "config.resolved.yaml", to_yaml(config));
  write_file_atomically(folder.root / "environment.json", environment.dump(2) + "\n");
}

void require_equal_on_all_ranks(const std::string& value, const char* what, Communicator& control) {
  const Hash128 hash = xxh3_128(std::as_bytes(std::span(value)));
  // Largest of (h, ~h): equal on all ranks exactly when each rank's own is the largest of both.
  const auto high = static_cast<std::int64_t>(hash.high), low = static_cast<std::int64_t>(hash.low);
  std::int64_t words[] = {high, ~high, low, ~low};
  control.all_reduce(View(words, DType::kI64, {4}), ReduceOp::kMax, Stream(), what).wait();
  if (words[0] != high || words[1] != ~high || words[2] != low || words[3] != ~low)
    throw UserError(ExitCode::kUsage, Place{},
                    fmt::format("{} differs between ranks: every rank must read the same files", what));
}

}  // namespace terroir
