#include "data/shard/build_folder.h"

#include <cerrno>
#include <utility>

#include "data/shard/shard_series.h"

namespace terroir {
namespace fs = std::filesystem;
namespace {

constexpr const char* kLockName = "lock";

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) throw SystemError::from_errno("remove", path.string(), error.value());
}

std::unique_ptr<FileLock> lock_folder(const fs::path& folder, const std::string& source) {
  try {
    return std::make_unique<FileLock>(folder / kLockName);
  } catch (const UserError&) {
    throw UserError(ExitCode::kUsage, Place{folder.string()},
                    fmt::format("another process is building source {} here: wait for it", source));
  }
}

}  // namespace

BuildFolder::BuildFolder(fs::path out_folder, std::string source)
    : out_folder_(std::move(out_folder)),
      path_(out_folder_ / (source + ".building")),
      source_(std::move(source)) {
  terroir::create_directories(path_);
  lock_ = lock_folder(path_, source_);
  for (const fs::directory_entry& entry : fs::directory_iterator(path_))
    if (entry.path().filename() != kLockName) remove_tree(entry.path());
}

BuildFolder::~BuildFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void BuildFolder::publish(const Manifest& manifest) const {
  const fs::path final_manifest = manifest_path(out_folder_, source_);
  remove_tree(final_manifest);
  sync_directory(out_folder_);  // no manifest may outlive the shards it lists
  for (const fs::directory_entry& entry : fs::directory_iterator(out_folder_))
    if (is_shard_of(entry.path().filename().string(), source_)) remove_tree(entry.path());
  for (const ManifestShard& shard : manifest.shards)
    rename_durably(path_ / shard.file, out_folder_ / shard.file);
  write_file_atomically(final_manifest, to_json(manifest).dump(2) + "\n");
}

}  // namespace terroir
