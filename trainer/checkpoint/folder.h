// Folders of checkpoints on disk: their names, and how one appears and disappears without a moment of half.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"

namespace terroir {

std::string step_folder_name(std::int64_t step);  // "step-00001000"

struct StepFolder {
  std::int64_t step;
  std::filesystem::path path;
};
// Step folders in `checkpoints_dir`, complete or not, highest step first. Empty when the folder does not
// exist.
std::vector<StepFolder> list_step_folders(const std::filesystem::path& checkpoints_dir);

// Why a checkpoint cannot be used, as far as its manifest and the files' sizes tell; nothing when it can.
std::optional<std::string> find_damage(const std::filesystem::path& checkpoint);

// The name under which `final_path` is written before it is published. Nothing reads such folders.
std::filesystem::path temporary_folder(const std::filesystem::path& final_path);

// Empty folder temporary_folder(final_path); what an interrupted writer left there is removed.
std::filesystem::path begin_folder(const std::filesystem::path& final_path);

// Renames the temporary folder to `final_path`, durably; a folder that was there is replaced.
void publish_folder(const std::filesystem::path& final_path, const SaveProbe& probe = {});

// rm -r; SystemError that names the path.
void remove_folder(const std::filesystem::path& path);

}  // namespace terroir
