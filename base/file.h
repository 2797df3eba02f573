// Files: whole reads, random reads, and writes that appear complete or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/handle.h"

namespace terroir {

// The whole file. A missing or unreadable file is a UserError (exit `on_missing`) that names it; a file
// longer than `max_bytes` is refused before it is read.
std::string read_file(const std::filesystem::path& path, ExitCode on_missing = ExitCode::kUsage,
                      std::uint64_t max_bytes = std::uint64_t{1} << 40);

// Random reads of a file (pread; safe from several threads).
class InputFile {
 public:
  // A missing or unreadable file is a UserError with `on_missing`.
  explicit InputFile(const std::filesystem::path& path, ExitCode on_missing = ExitCode::kUsage);
  const std::filesystem::path& path() const { return path_; }
  std::uint64_t size() const { return size_; }  // bytes, when opened
  // Fills `out` from byte `offset`. A file that ends before is a UserError with the constructor's exit code.
  void read_at(std::uint64_t offset, std::span<std::byte> out) const;

 private:
  std::filesystem::path path_;
  ExitCode on_error_;
  FileDescriptor fd_;
  std::uint64_t size_ = 0;
};

// Writes `path` under a temporary name beside it; commit() = fsync, close, rename, fsync of the folder.
// A link is followed; a device or pipe (/dev/stdout) is written in place, as there is nothing to rename.
// Without commit() the destructor removes the temporary file and `path` is as it was. Every failed call
// throws SystemError (exit 5 when the disk is full); after a failure the file must be given up, never
// retried.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void commit();
  std::uint64_t bytes_written() const { return bytes_written_; }
  // The temporary name, for libraries that write files themselves (HDF5): let them write here, then commit().
  const std::filesystem::path& temporary_path() const { return temporary_; }

 private:
  std::filesystem::path path_, temporary_;
  FileDescriptor fd_;
  std::uint64_t bytes_written_ = 0;
  bool committed_ = false, in_place_ = false;
};

// AtomicFile in one call.
void write_file_atomically(const std::filesystem::path& path, std::string_view text);

// fsync of a folder, so that names created, renamed or removed in it survive a power loss.
void sync_directory(const std::filesystem::path& path);
// mkdir -p; SystemError that names the path.
void create_directories(const std::filesystem::path& path);
// rename(2) of a folder or file, then fsync of the folder that holds `to`.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

// An exclusive flock on `path` (created if missing), held until destroyed or the process ends.
class FileLock {
 public:
  // Throws UserError (exit 2) that says who to look for when another process holds the lock.
  explicit FileLock(const std::filesystem::path& path);

 private:
  FileDescriptor fd_;
};

}  // namespace terroir
