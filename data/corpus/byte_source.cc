#include "data/corpus/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "base/handle.h"

namespace terroir {
namespace {

class FileSource : public ByteSource {
 public:
  explicit FileSource(const std::string& path) : path_(path) {
    const bool standard_input = path == "-";
    fd_ = FileDescriptor(standard_input ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                                        : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd_)
      throw UserError(ExitCode::kUsage, Place{path}, fmt::format("cannot open: {}", std::strerror(errno)));
    struct stat info {};
    if (::fstat(fd_.get(), &info) == 0 && S_ISDIR(info.st_mode))
      throw UserError(ExitCode::kUsage, Place{path}, "is a folder, a file is needed");
  }

  std::size_t read(std::span<char> out) override {
    for (;;) {
      const ssize_t got = ::read(fd_.get(), out.data(), out.size());
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno != EINTR) throw SystemError::from_errno("read", path_, errno);
    }
  }

 private:
  std::string path_;
  FileDescriptor fd_;
};

struct ZstdTraits {
  using type = ZSTD_DCtx*;
  static type invalid() { return nullptr; }
  static void release(type context) noexcept { ZSTD_freeDCtx(context); }
};

class ZstdSource : public ByteSource {
 public:
  explicit ZstdSource(const std::string& path)
      : path_(path), file_(path), context_(ZSTD_createDCtx()), buffer_(ZSTD_DStreamInSize()) {
    if (!context_) throw SystemError("ZSTD_createDCtx", "out of memory");
  }

  std::size_t read(std::span<char> out) override {
    ZSTD_outBuffer output = {out.data(), out.size(), 0};
    while (output.pos == 0) {
      if (input_.pos == input_.size && !refill()) return 0;
      const std::size_t result = ZSTD_decompressStream(context_.get(), &output, &input_);
      if (ZSTD_isError(result) != 0)
        refuse(fmt::format("not valid Zstandard data ({})", ZSTD_getErrorName(result)));
      inside_frame_ = result != 0;
    }
    return output.pos;
  }

 private:
  [[noreturn]] void refuse(const std::string& message) const {
    throw UserError(ExitCode::kData, Place{path_}, message + ": copy or compress the file again");
  }

  bool refill() {
    input_ = {buffer_.data(), file_.read(buffer_), 0};
    if (input_.size > 0) return true;
    // The decoder may still hold output of the last frame; it is flushed by calls without input.
    if (!inside_frame_) return false;
    ZSTD_outBuffer nothing = {nullptr, 0, 0};
    if (ZSTD_decompressStream(context_.get(), &nothing, &input_) != 0)
      refuse("the compressed data ends early");
    return false;
  }

  std::string path_;
  FileSource file_;
  Handle<ZstdTraits> context_;
  std::vector<char> buffer_;
  ZSTD_inBuffer input_ = {nullptr, 0, 0};
  bool inside_frame_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> open_bytes(const std::filesystem::path& path) {
  if (path.extension() == ".zst") return std::make_unique<ZstdSource>(path.string());
  return std::make_unique<FileSource>(path.string());
}

}  // namespace terroir
