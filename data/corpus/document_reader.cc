#include "data/corpus/document_reader.h"

#include <algorithm>
#include <cstring>

#include "base/json.h"
#include "data/tokenizer/utf8.h"

namespace terroir {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

bool is_json_lines(const std::filesystem::path& path, bool any_name_is_text) {
  if (path == "-") return false;
  std::filesystem::path name = path.filename();
  if (name.extension() == ".zst") name = name.stem();
  if (name.extension() == ".jsonl") return true;
  if (name.extension() == ".txt" || any_name_is_text) return false;
  throw UserError(ExitCode::kUsage, Place{path.string()},
                  "unknown kind of text: the name must end in .txt, .jsonl, .txt.zst or .jsonl.zst");
}

// Byte of `text` that begins no well-formed character, or its length.
std::size_t first_invalid(std::string_view text, std::size_t from) {
  const char* const end = text.data() + text.size();
  for (const char* p = text.data() + from; p < end;) {
    const Utf8Char c = decode_utf8(p, end);
    if (c.code_point == kInvalidCodePoint) return static_cast<std::size_t>(p - text.data());
    p += c.length;
  }
  return text.size();
}

std::string replace_invalid(const std::string& text) {
  std::string valid;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t bad = first_invalid(text, at);
    valid.append(text, at, bad - at);
    if (bad < text.size()) valid += "\xEF\xBF\xBD";
    at = bad + 1;
  }
  return valid;
}

Place line_place(const std::string& file, std::int64_t line, std::size_t column = 0) {
  return Place{file, static_cast<int>(line), static_cast<int>(column)};
}

}  // namespace

DocumentReader::DocumentReader(const std::filesystem::path& path, ReaderOptions options)
    : name_(path == "-" ? "<standard input>" : path.string()),
      options_(std::move(options)),
      json_lines_(is_json_lines(path, options_.any_name_is_text)),
      source_(open_bytes(path)),
      buffer_(kBufferBytes, '\0') {}

bool DocumentReader::next_line() {
  line_.clear();
  bool any = false;
  for (bool complete = false; !complete;) {
    if (buffer_begin_ == buffer_end_) {
      buffer_begin_ = 0;
      buffer_end_ = source_->read(buffer_);
      if (buffer_end_ == 0) break;
    }
    any = true;
    const char* begin = buffer_.data() + buffer_begin_;
    const std::size_t available = buffer_end_ - buffer_begin_;
    const void* newline = std::memchr(begin, '\n', available);
    complete = newline != nullptr;
    const auto length =
        complete ? static_cast<std::size_t>(static_cast<const char*>(newline) - begin) : available;
    line_.append(begin, length);
    buffer_begin_ += length + (complete ? 1 : 0);
    if (line_.size() > options_.max_line_bytes)
      throw UserError(
          ExitCode::kData, line_place(name_, line_number_ + 1),
          fmt::format("is longer than {} bytes: a line is one document, cut it", options_.max_line_bytes));
  }
  if (!any) return false;
  if (line_.ends_with('\r')) line_.pop_back();
  ++line_number_;
  return true;
}

void DocumentReader::check_utf8() {
  const std::size_t bad = first_invalid(line_, 0);
  if (bad == line_.size()) return;
  if (options_.invalid_utf8 == InvalidUtf8::kRefuse)
    throw UserError(
        ExitCode::kData, line_place(name_, line_number_, bad + 1),
        fmt::format("byte 0x{:02x} is not valid UTF-8: convert the file, or pass --invalid-utf8 replace",
                    static_cast<unsigned char>(line_[bad])));
  line_ = replace_invalid(line_);
}

void DocumentReader::parse_line(Document& document) const {
  const Json object = parse_json(line_, name_, ExitCode::kData, JsonLimits{options_.max_line_bytes},
                                 static_cast<int>(line_number_));
  const Place place = line_place(name_, line_number_);
  document.text = json_at<std::string>(object, options_.text_key, place, ExitCode::kData);
  document.id.reset();
  if (!object.contains("id")) return;
  const Json& id = object["id"];
  document.id =
      id.is_number_integer() ? id.dump() : json_at<std::string>(object, "id", place, ExitCode::kData);
}

bool DocumentReader::next(Document& document) {
  while (next_line()) {
    if (!json_lines_ && line_number_ == 1 && line_.starts_with("\xEF\xBB\xBF")) line_.erase(0, 3);
    if (line_.empty()) continue;
    check_utf8();
    if (json_lines_) {
      parse_line(document);
    } else {
      document.text = line_;
      document.id.reset();
    }
    document.line = line_number_;
    if (!document.text.empty()) return true;
    ++empty_texts_;
  }
  return false;
}

}  // namespace terroir
