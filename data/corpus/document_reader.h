// Documents out of text files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "data/corpus/byte_source.h"

namespace terroir {

struct Document {
  std::string text;               // valid UTF-8, not empty
  std::optional<std::string> id;  // the source's own name for it (JSON Lines only)
  std::int64_t line = 0;          // of the file it came from, from 1
};

enum class InvalidUtf8 {
  kRefuse,   // UserError at file:line:column (the column counts bytes)
  kReplace,  // each byte that belongs to no character becomes U+FFFD
};

struct ReaderOptions {
  std::string text_key = "text";  // of JSON Lines
  InvalidUtf8 invalid_utf8 = InvalidUtf8::kRefuse;
  bool any_name_is_text = false;  // read a file of unknown extension as .txt instead of refusing it
  std::uint64_t max_line_bytes = std::uint64_t{256}
                                 << 20;  // a longer line is refused: memory is bounded by it
};

// Reads one file by its extension: .txt has one document on each line; .jsonl one JSON object on each line,
// with the text under `text_key` and perhaps an "id" (text or integer); both also compressed as .zst; "-" is
// standard input, as .txt. Lines end in \n or \r\n. Empty lines and empty texts are skipped, a byte order
// mark before .txt too.
class DocumentReader {
 public:
  // Throws UserError (exit 2): unknown extension, file missing.
  DocumentReader(const std::filesystem::path& path, ReaderOptions options);

  // The next document, or false at the end. Throws UserError (exit 3) at file:line:column for invalid UTF-8
  // or JSON, a missing or wrong key, a line that is too long, damaged compression.
  bool next(Document& document);
  std::int64_t empty_texts() const { return empty_texts_; }  // documents skipped because they had no text

 private:
  bool next_line();
  void check_utf8();
  void parse_line(Document& document) const;

  std::string name_;
  ReaderOptions options_;
  bool json_lines_ = false;
  std::unique_ptr<ByteSource> source_;
  std::string buffer_;
  std::size_t buffer_begin_ = 0, buffer_end_ = 0;
  std::string line_;
  std::int64_t line_number_ = 0;
  std::int64_t empty_texts_ = 0;
};

}  // namespace terroir
