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

// Rank 0 creates the folder, locks it for this job and writes config.resolved.yaml and environment.json; the
// lock is held while the result lives. With checkpoint.resume = never a folder that has been used is refused.
std::optional<FileLock> open_run_folder(const RunFolder& folder, const Config& config,
                                        const OrderedJson& environment, int rank);

// The checkpoint to go on from (none: start anew), found by rank 0 and told to all, so that ranks cannot
// disagree. Collective over `control`.
std::optional<std::filesystem::path> find_resume_point(const RunFolder& folder, const Config& config,
                                                       Communicator& control, Logger& log);

// Throws UserError (exit 2) when `value` differs between ranks: they did not read the same file. Collective.
void require_equal_on_all_ranks(const std::string& value, const char* what, Communicator& control);

}  // namespace terroir
