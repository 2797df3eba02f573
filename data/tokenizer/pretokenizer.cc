#include "data/tokenizer/pretokenizer.h"

#include <algorithm>

namespace terroir {
namespace {

struct Description {
  std::string_view name, regex;
};

constexpr Description kDescriptions[] = {
    {"gpt-2", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {"llama-3",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {"qwen2",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
};

const Description& description(Pretokenizer pretokenizer) {
  return kDescriptions[static_cast<std::size_t>(pretokenizer)];
}

// Bytes of the English contraction ('s 't 're 've 'm 'll 'd) that `text` begins with, or 0. REQUIRES: text[0]
// == '\''.
std::size_t contraction_length(std::string_view text, bool ignore_case) {
  const auto letter = [text, ignore_case](std::size_t i) {
    const char c = i < text.size() ? text[i] : '\0';
    return ignore_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  const char first = letter(1), second = letter(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  // The long s, U+017F, is the one character outside ASCII whose case folding is one of these letters.
  if (ignore_case && text.substr(1).starts_with("\xC5\xBF")) return 3;
  return 0;
}

bool is_whitespace(CharClass c) { return c == CharClass::kSpace || c == CharClass::kNewline; }

}  // namespace

std::string_view pretokenizer_name(Pretokenizer pretokenizer) { return description(pretokenizer).name; }
std::string_view pretokenizer_regex(Pretokenizer pretokenizer) { return description(pretokenizer).regex; }

std::optional<Pretokenizer> pretokenizer_by_name(std::string_view name) {
  for (const Pretokenizer candidate : kPretokenizers)
    if (pretokenizer_name(candidate) == name) return candidate;
  return std::nullopt;
}

std::optional<Pretokenizer> pretokenizer_by_regex(std::string_view regex) {
  for (const Pretokenizer candidate : kPretokenizers)
    if (pretokenizer_regex(candidate) == regex) return candidate;
  return std::nullopt;
}

std::string pretokenizer_names() {
  std::string names;
  for (const Pretokenizer candidate : kPretokenizers)
    names.append(names.empty() ? "" : ", ").append(pretokenizer_name(candidate));
  return names;
}

WordSplitter::WordSplitter(Pretokenizer pretokenizer, std::string_view text)
    : table_(CharClassTable::get()),
      pretokenizer_(pretokenizer),
      position_(text.data()),
      end_(text.data() + text.size()) {}

std::string_view WordSplitter::next() {
  const char* begin = position_;
  position_ = pretokenizer_ == Pretokenizer::kGpt2 ? end_of_gpt2_word() : end_of_llama3_word();
  return {begin, static_cast<std::size_t>(position_ - begin)};
}

const char* WordSplitter::end_of_run(const char* p, CharClass char_class) const {
  for (ClassifiedChar c = at(p); c.char_class == char_class; c = at(p)) p += c.length;
  return p;
}

// \s*[\r\n]+ (if asked for), else \s+(?!\S), else \s+.
const char* WordSplitter::end_of_whitespace(bool ends_after_newline) const {
  const char* p = position_;
  const char* last_char = p;
  const char* after_newline = nullptr;
  for (ClassifiedChar c = at(p); is_whitespace(c.char_class); c = at(p)) {
    last_char = p;
    p += c.length;
    if (c.char_class == CharClass::kNewline) after_newline = p;
  }
  if (ends_after_newline && after_newline != nullptr) return after_newline;
  // All but the last white space, which the next word may begin with; a single one stands alone.
  return p == end_ || last_char == position_ ? p : last_char;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
const char* WordSplitter::end_of_gpt2_word() const {
  const char* p = position_;
  if (*p == '\'') {
    const std::size_t length =
        contraction_length({p, static_cast<std::size_t>(end_ - p)}, /*ignore_case=*/false);
    if (length > 0) return p + length;
  }
  if (*p == ' ') ++p;
  const CharClass first = at(p).char_class;
  if (is_whitespace(first) || first == CharClass::kEnd)
    return end_of_whitespace(/*ends_after_newline=*/false);
  return end_of_run(p, first);
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
const char* WordSplitter::end_of_llama3_word() const {
  const char* p = position_;
  if (*p == '\'') {
    const std::size_t length =
        contraction_length({p, static_cast<std::size_t>(end_ - p)}, /*ignore_case=*/true);
    if (length > 0) return p + length;
  }
  const ClassifiedChar first = at(p);
  if (first.char_class == CharClass::kLetter) return end_of_run(p + first.length, CharClass::kLetter);
  if (first.char_class == CharClass::kNumber) {
    p += first.length;
    for (int digits = pretokenizer_ == Pretokenizer::kQwen2 ? 1 : 3; digits > 1; --digits) {
      const ClassifiedChar c = at(p);
      if (c.char_class != CharClass::kNumber) break;
      p += c.length;
    }
    return p;
  }
  if (first.char_class != CharClass::kNewline) {
    const char* second = p + first.length;
    const CharClass second_class = at(second).char_class;
    if (second_class == CharClass::kLetter) return end_of_run(second, CharClass::kLetter);
    if (first.char_class == CharClass::kOther || (*p == ' ' && second_class == CharClass::kOther))
      return end_of_run(end_of_run(second, CharClass::kOther), CharClass::kNewline);
  }
  return end_of_whitespace(/*ends_after_newline=*/true);
}

std::size_t last_safe_cut(std::string_view text) {
  // The end of a long text nearly always has one.
  constexpr std::size_t kWindow = 4096;
  const CharClassTable& table = CharClassTable::get();
  const char* const end = text.data() + text.size();
  for (const std::size_t window : {std::min(kWindow, text.size()), text.size()}) {
    const char* cut = text.data();
    CharClass before = CharClass::kEnd;
    const char* p = end - window;
    for (int i = 0; i < 3 && p < end && (*p & '\xC0') == '\x80'; ++i)
      ++p;  // the rest of a character cut by the window
    while (p < end) {
      const ClassifiedChar c = classify(table, p, end);
      const bool after_word = before == CharClass::kLetter || before == CharClass::kNumber;
      if ((after_word && is_whitespace(c.char_class)) ||
          (before == CharClass::kOther && c.char_class == CharClass::kSpace))
        cut = p;
      before = c.char_class;
      p += c.length;
    }
    if (cut != text.data()) return static_cast<std::size_t>(cut - text.data());
  }
  return 0;
}

}  // namespace terroir
