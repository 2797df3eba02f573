// Reading and writing Hugging Face's `tokenizer.json` for byte-level BPE. docs/formats/tokenizer.md describes
// the file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/pretokenizer.h"

namespace terroir {

// A token that is found in a text as it stands, before the text is cut into words.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool special = true;      // recognized only when asked for
  bool normalized = false;  // looked for in the normalized text
};

// What a tokenizer.json says, checked.
struct TokenizerParts {
  struct Merge {
    std::int32_t left, right, result;
  };

  Pretokenizer pretokenizer = Pretokenizer::kLlama3;
  bool nfc = false;            // normalize to NFC first
  bool ignore_merges = false;  // a word that is a token is that token, whatever the merges say
  // Bytes of each id; empty for an added token that is not in the model's vocabulary.
  std::vector<std::string> tokens;
  std::vector<Merge> merges;  // in order of rank; a pair named twice has the later rank
  std::vector<AddedToken> added_tokens;
  // The special tokens that the post-processor puts before and after a text.
  std::optional<std::int32_t> begin_token, end_token;
};

// REQUIRES of the file, each broken one a UserError (exit 3) with `file` and the key: strict JSON of at most
// 64 MiB and 64 levels; a BPE model without dropout, prefix, suffix or byte fallback; ids 0 .. n-1, each
// once; all 256 bytes in the vocabulary; both parts and the result of each merge in it; a known
// pre-tokenizer, normalizer null or NFC, post-processor ByteLevel or TemplateProcessing with at most one
// token on each side; decoder ByteLevel or null.
TokenizerParts parse_tokenizer_json(std::string_view text, const std::string& file);

// The file for `parts`. Special tokens must be in `parts.tokens` too, as Hugging Face's trainer writes them.
std::string tokenizer_json(const TokenizerParts& parts);

}  // namespace terroir
