// How well a tokenizer suits a text: the figures of `terroir tokenizer report`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "data/tokenizer/tokenizer.h"

namespace terroir {

struct TokenizerReport {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t characters = 0;  // a byte that is not UTF-8 counts as one
  std::uint64_t words = 0;       // runs of characters without white space
  std::uint64_t tokens = 0;
  std::uint64_t single_byte_tokens =
      0;  // of length 1, of a character that is longer: bytes no merge has reached
};

TokenizerReport report_tokenizer(const Tokenizer& tokenizer, const std::string& name, std::string_view text);

// {"tokenizer_sha256", "vocab_size", "files": [{"file", counts..., "bytes_per_token", "tokens_per_word",
// "characters_per_token", "single_byte_share"}, ...]}. A ratio of an empty text is null.
OrderedJson to_json(const Tokenizer& tokenizer, const std::vector<TokenizerReport>& rows);
std::string to_table(const std::vector<TokenizerReport>& rows);

}  // namespace terroir
