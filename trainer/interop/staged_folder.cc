#include "trainer/interop/staged_folder.h"

#include "base/file.h"

namespace terroir {
namespace fs = std::filesystem;
namespace {

void check_replaceable(const fs::path& path, bool overwrite, const std::string& marker) {
  if (!fs::exists(path)) return;
  const Place place{path.string()};
  if (!fs::is_directory(path))
    throw UserError(ExitCode::kUsage, place, "exists and is not a folder: choose another name");
  if (fs::is_empty(path)) return;
  if (!overwrite)
    throw UserError(ExitCode::kUsage, place, "is not empty: choose another folder, or give --overwrite");
  if (!fs::exists(path / marker))
    throw UserError(
        ExitCode::kUsage, place,
        fmt::format("has no {}, so it holds something else: --overwrite does not replace it", marker));
}

// "out/" and "out/." mean out: the name beside which the temporary one stands.
fs::path without_trailing_slash(fs::path path) {
  path = path.lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

}  // namespace

StagedFolder::StagedFolder(fs::path final_path, bool overwrite, const std::string& marker)
    : final_path_(without_trailing_slash(fs::absolute(final_path))) {
  check_replaceable(final_path_, overwrite, marker);
  path_ = begin_folder(final_path_);
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void StagedFolder::publish() { publish_folder(final_path_); }

}  // namespace terroir
