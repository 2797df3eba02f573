// Pre-tokenizers: how a text is cut into words before byte pairs are merged; no token crosses a word's end.
// Each is a regular expression of Hugging Face's tokenizers, matched by hand in one linear pass.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "data/tokenizer/char_class.h"

namespace terroir {

enum class Pretokenizer { kGpt2, kLlama3, kQwen2 };

inline constexpr Pretokenizer kPretokenizers[] = {Pretokenizer::kGpt2, Pretokenizer::kLlama3,
                                                  Pretokenizer::kQwen2};

// "gpt-2", "llama-3" or "qwen2".
std::string_view pretokenizer_name(Pretokenizer pretokenizer);
// The expression, to the letter as in Hugging Face's files.
std::string_view pretokenizer_regex(Pretokenizer pretokenizer);
std::optional<Pretokenizer> pretokenizer_by_name(std::string_view name);
std::optional<Pretokenizer> pretokenizer_by_regex(std::string_view regex);
// "gpt-2, llama-3, qwen2", for messages.
std::string pretokenizer_names();

// The words of a text, in order; concatenated they are the text. Any bytes will do: a byte that is not part
// of a well-formed UTF-8 character counts as one character outside \s, \p{L} and \p{N}.
//
//   WordSplitter words(Pretokenizer::kLlama3, "can't wait");
//   while (!words.done()) use(words.next());                   // "can", "'t", " wait"
class WordSplitter {
 public:
  // `text` must outlive the splitter.
  WordSplitter(Pretokenizer pretokenizer, std::string_view text);
  bool done() const { return position_ == end_; }
  // REQUIRES: !done(). Never empty.
  std::string_view next();

 private:
  const char* end_of_gpt2_word() const;
  const char* end_of_llama3_word() const;
  const char* end_of_whitespace(bool ends_after_newline) const;
  const char* end_of_run(const char* p, CharClass char_class) const;
  ClassifiedChar at(const char* p) const { return classify(table_, p, end_); }

  const CharClassTable& table_;
  Pretokenizer pretokenizer_;
  const char* position_;
  const char* end_;
};

// The last position in (0, text.size()) at which `text` may be cut so that the words of the two parts are the
// words of the whole, by every pre-tokenizer and whatever follows `text`; 0 when there is none. It is one
// between a letter or number and white space, or between another visible character and white space that is no
// line end.
std::size_t last_safe_cut(std::string_view text);

}  // namespace terroir
