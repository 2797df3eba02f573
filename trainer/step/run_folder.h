// The folder of a run: who may write to it, where things are, and what it starts from.
#pragma once

#include <filesystem>
#include <optional>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "parallel/communicator.h"
#include "trainer/config/config.h"

namespace terroir {

struct RunFolder {
  std::filesystem::path root;
  std::filesystem::path checkpoints() const { return root / "checkpoints"; }
  std::filesystem::path log(int rank) const;
};
RunFolder run_folder(const Config& config);

// Before open_run_folder: throws UserError (exit 2), on rank 0, where checkpoint.resume is never and the
// folder is not empty.
void refuse_used_folder(const RunFolder& folder, const Config& config, int rank);

// What a run starts from: one of both, or nothing. As rank 0 finds it, so that ranks cannot disagree.
struct StartPoint {
  std::optional<std::filesystem::path> resume;     // the newest valid checkpoint of the run itself
  std::optional<std::filesystem::path> init_from;  // the step folder to take weights from
};
// Writes nothing. UserError, exit 4: there are checkpoints but none is valid, or init_from has none.
// `log` (none: silently) hears of checkpoints passed over. Collective over `control`.
StartPoint find_start_point(const RunFolder& folder, const Config& config, Communicator& control,
                            Logger* log);

// Rank 0 creates the folder and locks it for this job; the lock is held while the result lives.
std::optional<FileLock> open_run_folder(const RunFolder& folder, int rank);
// Rank 0: config.resolved.yaml and environment.json, once nothing can refuse the run any more.
void write_run_description(const RunFolder& folder, const Config& config, const OrderedJson& environment);

// Throws UserError (exit 2) when `value` differs between ranks: they did not read the same file. Collective.
void require_equal_on_all_ranks(const std::string& value, const char* what, Communicator& control);

}  // namespace terroir
