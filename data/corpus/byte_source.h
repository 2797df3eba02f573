// Bytes of a file, of standard input, or of a compressed file, one after another.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

namespace terroir {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills the front of `out` and returns how many bytes; 0 only at the end. Throws SystemError when reading
  // fails and UserError (exit 3) when compressed data is damaged or ends early. REQUIRES: out is not empty.
  virtual std::size_t read(std::span<char> out) = 0;
};

// "-" is standard input; a name that ends in .zst is decompressed (Zstandard, any number of frames) while it
// is read. A file that cannot be opened is a UserError (exit 2).
std::unique_ptr<ByteSource> open_bytes(const std::filesystem::path& path);

}  // namespace terroir
