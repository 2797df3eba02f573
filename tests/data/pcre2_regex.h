// A regular expression of PCRE2, with Unicode classes: the oracle of the pre-tokenizers' tests.
#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace terroir {

class Pcre2Regex {
 public:
  Pcre2Regex(std::string_view pattern) {  // NOLINT: implicit on purpose
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
    if (!code_) throw std::runtime_error("pcre2_compile: error " + std::to_string(error));
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
    match_.reset(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
  }

  bool matches(std::string_view text) const { return match(text, 0) > 0; }

  // All matches, one after another. REQUIRES: they cover the text, which is valid UTF-8.
  std::vector<std::string> split(std::string_view text) const {
    std::vector<std::string> words;
    for (std::size_t begin = 0; begin < text.size();) {
      const int result = match(text, begin);
      const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match_.get());
      if (result <= 0 || bounds[0] != begin || bounds[1] <= begin)
        throw std::runtime_error("no match at byte " + std::to_string(begin) + ": " + std::to_string(result));
      words.emplace_back(text.substr(begin, bounds[1] - begin));
      begin = bounds[1];
    }
    return words;
  }

 private:
  int match(std::string_view text, std::size_t begin) const {
    return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), begin, 0,
                       match_.get(), nullptr);
  }
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
    void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  };
  std::unique_ptr<pcre2_code, Free> code_;
  std::unique_ptr<pcre2_match_data, Free> match_;
};

}  // namespace terroir
