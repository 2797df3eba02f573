#include "trainer/checkpoint/folder.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/file.h"
#include "trainer/checkpoint/manifest.h"

namespace terroir {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPrefix = "step-";
constexpr const char* kTemporary = ".tmp";

std::optional<std::int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || rest != end || step_folder_name(step) != name) return std::nullopt;
  return step;
}

// Names in a folder; none when it does not exist.
std::vector<fs::path> entries_of(const fs::path& folder) {
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  if (error == std::errc::no_such_file_or_directory) return {};
  std::vector<fs::path> paths;
  for (; !error && entries != fs::directory_iterator(); entries.increment(error))
    paths.push_back(entries->path());
  if (error) throw SystemError::from_errno("readdir", folder.string(), error.value());
  return paths;
}

void remove_older(const fs::path& checkpoints_dir, std::int64_t n, const SaveProbe& probe) {
  std::int64_t valid = 0;
  for (const StepFolder& folder : list_step_folders(checkpoints_dir)) {
    if (valid >= n) {
      const fs::path doomed = temporary_folder(folder.path);  // gone under its name before any file of it is
      rename_durably(folder.path, doomed);
      if (probe) probe(SavePoint::kDuringDelete);
      remove_folder(doomed);
    } else if (!find_damage(folder.path)) {
      ++valid;
    }
  }
}

}  // namespace

std::string step_folder_name(std::int64_t step) { return fmt::format("{}{:08}", kPrefix, step); }

std::vector<StepFolder> list_step_folders(const fs::path& checkpoints_dir) {
  std::vector<StepFolder> folders;
  for (const fs::path& path : entries_of(checkpoints_dir))
    if (const std::optional<std::int64_t> step = step_of(path.filename())) folders.push_back({*step, path});
  std::sort(folders.begin(), folders.end(), [](const auto& a, const auto& b) { return a.step > b.step; });
  return folders;
}

fs::path temporary_folder(const fs::path& final_path) {
  fs::path path = final_path;
  return path += kTemporary;
}

fs::path begin_folder(const fs::path& final_path) {
  fs::path path = temporary_folder(final_path);
  remove_folder(path);
  terroir::create_directories(path);
  return path;
}

void publish_folder(const fs::path& final_path, const SaveProbe& probe) {
  const fs::path temporary = temporary_folder(final_path);
  fs::path replaced = final_path;
  replaced += fmt::format(".replaced{}", kTemporary);
  remove_folder(replaced);
  sync_directory(temporary);
  if (probe) probe(SavePoint::kBeforeRename);
  if (fs::exists(final_path)) rename_durably(final_path, replaced);
  rename_durably(temporary, final_path);
  if (probe) probe(SavePoint::kAfterRename);
  remove_folder(replaced);
}

void remove_folder(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) throw SystemError::from_errno("remove", path.string(), error.value());
}

std::optional<std::string> find_damage(const fs::path& checkpoint) {
  try {
    for (const StoredFile& file : read_checkpoint_manifest(checkpoint).files) {
      std::error_code error;
      const std::uint64_t bytes = fs::file_size(checkpoint / file.name, error);
      if (error) return fmt::format("{}: {}", (checkpoint / file.name).string(), error.message());
      if (bytes != file.bytes)
        return fmt::format("{}: has {} bytes where the manifest says {}", (checkpoint / file.name).string(),
                           bytes, file.bytes);
    }
  } catch (const UserError& error) {
    return error.what();
  }
  return std::nullopt;
}

std::optional<fs::path> newest_valid_checkpoint(const fs::path& checkpoints_dir,
                                                const SkipCallback& on_skipped) {
  for (const StepFolder& folder : list_step_folders(checkpoints_dir)) {
    const std::optional<std::string> damage = find_damage(folder.path);
    if (!damage) return folder.path;
    if (on_skipped) on_skipped(folder.path, *damage);
  }
  return std::nullopt;
}

fs::path resolve_checkpoint(const fs::path& path) {
  if (fs::exists(path / kManifestName)) return path;
  std::string skipped;
  const auto note = [&](const fs::path&, const std::string& reason) { skipped += "; " + reason; };
  for (const fs::path& folder : {path / "checkpoints", path})
    if (const auto found = newest_valid_checkpoint(folder, note)) return *found;
  throw UserError(
      ExitCode::kCheckpoint, Place{path.string()},
      "holds no complete checkpoint: name a step-* folder, or a run folder with checkpoints" + skipped);
}

std::optional<std::string> keep_last(const fs::path& checkpoints_dir, std::int64_t n,
                                     const SaveProbe& probe) {
  try {
    for (const fs::path& path : entries_of(checkpoints_dir))
      if (path.filename().string().starts_with(kPrefix) && path.extension() == kTemporary)
        remove_folder(path);
    if (n > 0) remove_older(checkpoints_dir, n, probe);
  } catch (const SystemError& error) {
    return error.what();
  }
  return std::nullopt;
}

}  // namespace terroir
