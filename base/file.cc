#include "base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace terroir {
namespace fs = std::filesystem;
namespace {

FileDescriptor open_for_reading(const fs::path& path, ExitCode on_missing) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd)
    throw UserError(on_missing, Place{path.string()}, fmt::format("cannot open: {}", std::strerror(errno)));
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) throw SystemError::from_errno("fstat", path.string(), errno);
  if (S_ISDIR(info.st_mode))
    throw UserError(on_missing, Place{path.string()}, "is a folder, a file is needed");
  return fd;
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

}  // namespace

std::string read_file(const fs::path& path, ExitCode on_missing, std::uint64_t max_bytes) {
  const FileDescriptor fd = open_for_reading(path, on_missing);
  std::string text;
  std::string chunk(1 << 20, '\0');
  for (;;) {
    const ssize_t got = ::read(fd.get(), chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw SystemError::from_errno("read", path.string(), errno);
    if (got == 0) return text;
    text.append(chunk.data(), static_cast<std::size_t>(got));
    if (text.size() > max_bytes)
      throw UserError(on_missing, Place{path.string()},
                      fmt::format("is larger than the {} bytes allowed here", max_bytes));
  }
}

InputFile::InputFile(const fs::path& path, ExitCode on_missing)
    : path_(path), on_error_(on_missing), fd_(open_for_reading(path, on_missing)) {
  struct stat info {};
  if (::fstat(fd_.get(), &info) != 0) throw SystemError::from_errno("fstat", path.string(), errno);
  size_ = static_cast<std::uint64_t>(info.st_size);
}

void InputFile::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        ::pread(fd_.get(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw SystemError::from_errno("pread", path_.string(), errno);
    if (got == 0)
      throw UserError(
          on_error_, Place{path_.string()},
          fmt::format("ends at byte {}, {} bytes were expected from byte {}: the file is truncated",
                      offset + done, out.size(), offset));
    done += static_cast<std::size_t>(got);
  }
}

AtomicFile::AtomicFile(const fs::path& path) : path_(path) {
  std::error_code ignored;
  const fs::file_status target = fs::status(path, ignored);
  if (fs::exists(target) && !fs::is_regular_file(target) && !fs::is_directory(target)) {
    in_place_ = true;  // a device or a pipe, such as /dev/stdout: there is nothing to rename
    temporary_ = path;
    fd_ = FileDescriptor(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd_) throw SystemError::from_errno("open", path.string(), errno);
    return;
  }
  if (fs::is_symlink(path, ignored))
    if (fs::path real = fs::weakly_canonical(path, ignored); !ignored) path_ = std::move(real);
  // Process id and counter: two writers of one name never share a temporary file.
  static std::atomic<unsigned> counter{0};
  temporary_ = path_;
  temporary_ += fmt::format(".{}.{}.tmp", ::getpid(), counter++);
  fd_ = FileDescriptor(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!fd_) throw SystemError::from_errno("create", temporary_.string(), errno);
}

AtomicFile::~AtomicFile() {
  if (!committed_ && !in_place_) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t put = ::write(fd_.get(), bytes.data() + done, bytes.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw SystemError::from_errno("write", temporary_.string(), errno);
    done += static_cast<std::size_t>(put);
  }
  bytes_written_ += bytes.size();
}

void AtomicFile::commit() {
  TERROIR_CHECK(!committed_, "{} committed twice", path_.string());
  if (!in_place_ && ::fsync(fd_.get()) != 0)
    throw SystemError::from_errno("fsync", temporary_.string(), errno);
  if (::close(fd_.release()) != 0) throw SystemError::from_errno("close", temporary_.string(), errno);
  committed_ = in_place_;
  if (in_place_) return;
  if (::rename(temporary_.c_str(), path_.c_str()) != 0)
    throw SystemError::from_errno("rename", path_.string(), errno);
  committed_ = true;
  sync_directory(folder_of(path_));
}

void write_file_atomically(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void sync_directory(const fs::path& path) {
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw SystemError::from_errno("open", path.string(), errno);
  if (::fsync(fd.get()) != 0 && errno != EINVAL)  // EINVAL: a file system without folder fsync
    throw SystemError::from_errno("fsync", path.string(), errno);
}

void create_directories(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw SystemError::from_errno("mkdir", path.string(), error.value());
}

void rename_durably(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) throw SystemError::from_errno("rename", to.string(), errno);
  sync_directory(folder_of(to));
}

FileLock::FileLock(const fs::path& path) : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (!fd_) throw SystemError::from_errno("open", path.string(), errno);
  if (::flock(fd_.get(), LOCK_EX | LOCK_NB) != 0)
    throw UserError(
        ExitCode::kUsage, Place{path.string()},
        "is locked by another process that is still running: wait for it, or choose another run.name");
}

}  // namespace terroir
