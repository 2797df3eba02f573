// A folder that appears complete or not at all: written beside its final name, then renamed.
#pragma once

#include <filesystem>
#include <string>

#include "trainer/checkpoint/folder.h"

namespace terroir {

class StagedFolder {
 public:
  // `final_path` must not exist, or be empty, or, with `overwrite`, hold `marker`: a file that shows that the
  // folder is of the kind that is about to replace it. Otherwise a UserError, exit 2, and nothing is touched.
  StagedFolder(std::filesystem::path final_path, bool overwrite, const std::string& marker);
  ~StagedFolder();  // without publish(): removes what was written
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }  // write here
  void publish();

 private:
  std::filesystem::path final_path_, path_;
};

}  // namespace terroir
