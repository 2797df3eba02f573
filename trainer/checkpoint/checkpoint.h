// Checkpoints: a folder that holds all of a run's state and appears complete or not at all.
//
//   run/checkpoints/step-00001000/  manifest.json  rank-00000.safetensors ...  tokenizer.json  other texts
//
// Any layout loads any checkpoint: the manifest speaks of logical tensors. docs/formats/checkpoint.md is the
// format.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "base/json.h"
#include "parallel/communicator.h"
#include "trainer/checkpoint/slice.h"
#include "trainer/config/model_config.h"

namespace terroir {

// What a checkpoint says besides its tensors.
struct CheckpointMeta {
  std::int64_t step = 0;
  std::int64_t next_sample = 0;  // global index of the first sample not yet trained on
  ModelConfig model;
  std::string tokenizer_sha256;  // of the tokenizer.json stored inside; empty without one
  std::string config_hash, plan_hash;
  Json extra =
      Json::object();  // counters, world layout, thread count, versions: whatever the writer wants back
};

// Moments at which tests stop a save; the callback may throw or kill the process. Not for other use.
enum class SavePoint : std::uint8_t { kAfterWrite, kAfterFsync, kBeforeRename, kAfterRename, kDuringDelete };
using SaveProbe = std::function<void(SavePoint)>;

// Writes checkpoints_dir/step-NNNNNNNN. Collective over `control`, which must span every rank that owns
// state; all ranks see one file system. Each element of each state is passed by exactly one rank (its owner),
// f32, host memory.
//
// `tokenizer_json` is copied into the checkpoint (empty: none). meta.tokenizer_sha256 is computed from it
// when empty; otherwise a file with another hash is refused, exit 4. `texts`, file name -> contents, become
// files of the checkpoint too; rank 0's count. A checkpoint of the same step is replaced.
//
// Ranks write to step-NNNNNNNN.tmp and agree that all succeeded before rank 0 writes the manifest and renames
// the folder. When one fails (no space: exit 5) all throw, the temporary folder is removed, and earlier
// checkpoints are as they were. A failure of `control` itself (TransportError) leaves the temporary folder,
// which nothing reads.
void save_checkpoint(const std::filesystem::path& checkpoints_dir, const CheckpointMeta& meta,
                     std::span<const StateSlice> slices, const std::filesystem::path& tokenizer_json,
                     Communicator& control, const SaveProbe& probe = {},
                     const std::map<std::string, std::string>& texts = {});

// `path` in the following is a step folder, as resolve_checkpoint returns. Damage is a UserError, exit 4,
// that names the file (and the tensor). Each reads on its own: no collective.

CheckpointMeta read_checkpoint_meta(const std::filesystem::path& path);

// Fills every wanted slice, whatever layout stored it. Every byte taken from a file is checked against its
// hash. A tensor, a state or an element that the checkpoint lacks, and a shape that differs, are errors that
// name the tensor; what the checkpoint has beyond that is ignored. After a throw the contents of `wanted` are
// unspecified.
void load_checkpoint(const std::filesystem::path& path, std::span<const StateSlice> wanted);

// True when the checkpoint holds this state of any tensor: false for "exp_avg" of an imported model.
bool checkpoint_has_state(const std::filesystem::path& path, const std::string& state);

// A text file stored in the checkpoint ("tokenizer.json", or one of save_checkpoint's `texts`), checked
// against its hash; nothing when it has none.
std::optional<std::string> read_checkpoint_file(const std::filesystem::path& path, const std::string& name);

// Why a checkpoint folder was passed over.
using SkipCallback = std::function<void(const std::filesystem::path&, const std::string& reason)>;

// The step folder with the highest step whose manifest is whole and whose files have the right sizes.
// Contents are checked when read. Call it on one rank and broadcast the answer, so that ranks cannot
// disagree.
std::optional<std::filesystem::path> newest_valid_checkpoint(const std::filesystem::path& checkpoints_dir,
                                                             const SkipCallback& on_skipped = {});

// The step folder that a CKPT_DIR argument means: itself, or the newest valid one of a run folder or of its
// checkpoints folder. UserError, exit 4, when there is none.
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path);

// Removes step folders older than the n-th newest valid one, and what interrupted saves left. n = 0 keeps
// all. Call it on one rank, after save_checkpoint returned. The error that ended it early, if any: the newest
// checkpoint is whole, so a run goes on.
std::optional<std::string> keep_last(const std::filesystem::path& checkpoints_dir, std::int64_t n,
                                     const SaveProbe& probe = {});

}  // namespace terroir
