#include <exception>

#include "base/file.h"
#include "base/hash.h"
#include "parallel/text.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/rank_file.h"

namespace terroir {
namespace fs = std::filesystem;
namespace {

// Runs `part` on this rank and returns when all ranks have run theirs. When one fails all throw: the failed
// ranks what stopped them, the others who failed. So no rank waits in a collective for one that gave up.
void together(Communicator& control, const std::function<void()>& part) {
  std::exception_ptr failure;
  std::int64_t exit_code = 0;
  try {
    part();
  } catch (const TransportError&) {
    throw;  // the others cannot be reached
  } catch (const Error& error) {
    failure = std::current_exception();
    exit_code = static_cast<std::int64_t>(error.exit_code());
  } catch (const std::exception&) {
    failure = std::current_exception();
    exit_code = static_cast<std::int64_t>(ExitCode::kInternal);
  }
  std::int64_t worst = failure ? exit_code << 32 | control.rank() : 0;
  control.all_reduce(View(&worst, DType::kI64, {1}), ReduceOp::kMax, Stream(), "checkpoint status").wait();
  if (failure) std::rethrow_exception(failure);
  if (worst != 0)
    throw SystemError(
        "save_checkpoint",
        fmt::format("rank {} failed, see its message; earlier checkpoints are intact", worst & 0xffffffff),
        static_cast<ExitCode>(worst >> 32));
}

void store_tokenizer(const fs::path& source, const fs::path& folder, CheckpointManifest& manifest) {
  if (source.empty()) return;
  const std::string text = read_file(source, ExitCode::kCheckpoint);
  const std::string sha256 = sha256_hex(text);
  std::string& expected = manifest.meta.tokenizer_sha256;
  if (expected.empty()) expected = sha256;
  if (sha256 != expected)
    throw UserError(
        ExitCode::kCheckpoint, Place{source.string()},
        fmt::format("its SHA-256 is {}, the run was started with {}: put the first tokenizer back", sha256,
                    expected));
  manifest.files.push_back(write_side_file(folder, "tokenizer.json", text));
}

SliceReader memory_of(std::span<const StateSlice> slices) {
  return [slices](std::size_t slice, std::int64_t first, std::int64_t count) {
    return std::span<const float>(slices[slice].data + first, static_cast<std::size_t>(count));
  };
}

// Rank 0: the manifest from all ranks' parts, then the rename that makes the checkpoint exist.
void commit(const fs::path& final_path, CheckpointManifest manifest, const std::vector<std::string>& parts,
            const SaveProbe& probe) {
  for (const std::string& part : parts) merge(manifest, parse_manifest_part(part));
  check_complete(manifest);
  write_file_atomically(temporary_folder(final_path) / kManifestName, manifest_text(manifest));
  publish_folder(final_path, probe);
}

void save_in_step(const fs::path& final_path, const CheckpointMeta& meta, std::span<const StateSlice> slices,
                  const fs::path& tokenizer_json, Communicator& control, const SaveProbe& probe,
                  const std::map<std::string, std::string>& texts) {
  const bool leader = control.rank() == 0;
  const fs::path folder = temporary_folder(final_path);
  CheckpointManifest manifest{meta, {}, {}}, part;
  together(control, [&] {
    if (leader) begin_folder(final_path);
  });
  together(control, [&] {
    const std::string name = fmt::format("rank-{:05}.safetensors", control.rank());
    part = write_rank_file(folder, name, slices, memory_of(slices), probe);
    if (!leader) return;
    store_tokenizer(tokenizer_json, folder, manifest);
    for (const auto& [file, text] : texts) manifest.files.push_back(write_side_file(folder, file, text));
  });
  const std::vector<std::string> parts = gather_texts(manifest_part_text(part), control, "manifest parts");
  together(control, [&] {
    if (leader) commit(final_path, std::move(manifest), parts, probe);
  });
}

}  // namespace

void save_checkpoint(const fs::path& checkpoints_dir, const CheckpointMeta& meta,
                     std::span<const StateSlice> slices, const fs::path& tokenizer_json,
                     Communicator& control, const SaveProbe& probe,
                     const std::map<std::string, std::string>& texts) {
  const fs::path final_path = checkpoints_dir / step_folder_name(meta.step);
  try {
    save_in_step(final_path, meta, slices, tokenizer_json, control, probe, texts);
  } catch (const TransportError&) {
    throw;
  } catch (...) {
    std::error_code ignored;  // what stopped the save is what the caller must hear
    if (control.rank() == 0) fs::remove_all(temporary_folder(final_path), ignored);
    // No rank leaves, and with it perhaps the whole job, before the folder is gone.
    try {
      control.barrier(Stream(), "checkpoint clean-up");
    } catch (const TransportError&) {
    }
    throw;
  }
}

}  // namespace terroir
