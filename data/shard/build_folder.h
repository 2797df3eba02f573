// The place where one source's shards are made before they are complete.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "base/file.h"
#include "data/shard/manifest.h"

namespace terroir {

class BuildFolder {
 public:
  // out_folder/SOURCE.building, created, locked against a second build and emptied of what a killed one left.
  // UserError (exit 2) when another process is building the source.
  BuildFolder(std::filesystem::path out_folder, std::string source);
  ~BuildFolder();  // removes the folder with what is in it
  BuildFolder(const BuildFolder&) = delete;
  BuildFolder& operator=(const BuildFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  // Removes the source's older shards and manifest, moves the manifest's shards to their final names and
  // writes the manifest. Killed in between, it leaves shards without a manifest, which the next build
  // replaces.
  void publish(const Manifest& manifest) const;

 private:
  std::filesystem::path out_folder_, path_;
  std::string source_;
  std::unique_ptr<FileLock> lock_;
};

}  // namespace terroir
