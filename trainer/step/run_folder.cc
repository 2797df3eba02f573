#include "trainer/step/run_folder.h"

#include <algorithm>

#include "base/hash.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/config/config_file.h"

namespace terroir {
namespace fs = std::filesystem;

fs::path RunFolder::log(int rank) const { return root / "log" / fmt::format("rank-{:05d}.log", rank); }

RunFolder run_folder(const Config& config) { return {fs::path(config.run.dir) / config.run.name}; }

std::optional<FileLock> open_run_folder(const RunFolder& folder, const Config& config,
                                        const OrderedJson& environment, int rank) {
  if (rank != 0) return std::nullopt;
  const bool used = fs::exists(folder.root / "metrics.jsonl") || fs::exists(folder.checkpoints());
  if (used && config.checkpoint.resume == "never")
    throw UserError(ExitCode::kUsage, Place{folder.root.string(), 0, 0, "checkpoint.resume"},
                    "never: this folder already holds a run; choose another run.name, or resume with auto");
  terroir::create_directories(folder.root / "log");
  terroir::create_directories(folder.checkpoints());
  std::optional<FileLock> lock(std::in_place, folder.root / ".lock");
  write_file_atomically(folder.root / "config.resolved.yaml", to_yaml(config));
  write_file_atomically(folder.root / "environment.json", environment.dump(2) + "\n");
  std::error_code ignored;
  fs::remove(folder.root / "STOP", ignored);  // of an earlier run
  return lock;
}

std::optional<fs::path> find_resume_point(const RunFolder& folder, const Config& config,
                                          Communicator& control, Logger& log) {
  if (config.checkpoint.resume != "auto") return std::nullopt;
  std::string name(64, '\0');
  if (control.rank() == 0) {
    const auto newest =
        newest_valid_checkpoint(folder.checkpoints(), [&](const fs::path& path, const std::string& why) {
          log.warn("{} is passed over: {}", path.string(), why);
        });
    if (newest)
      std::copy_n(newest->filename().string().begin(), newest->filename().string().size(), name.begin());
  }
  control
      .broadcast(View(name.data(), DType::kU8, {static_cast<std::int64_t>(name.size())}), 0, Stream(),
                 "resume point")
      .wait();
  name.resize(name.find('\0'));
  if (name.empty()) return std::nullopt;
  return folder.checkpoints() / name;
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
