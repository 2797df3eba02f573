// Tokenizers small enough to check by hand.
#pragma once

#include <string>
#include <string_view>

#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train.h"

namespace terroir {

inline TokenizerParts train_on(std::string_view text, TrainOptions options) {
  WordCounter counter({.pretokenizer = options.pretokenizer});
  counter.add_text(text);
  return train_bpe(counter.take(), options);
}

inline Tokenizer tokenizer_from(const TokenizerParts& parts) {
  return Tokenizer::parse(tokenizer_json(parts), "small.json");
}

// A tokenizer with some merges in several scripts.
inline TokenizerParts small_parts(Pretokenizer pretokenizer = Pretokenizer::kLlama3) {
  return train_on(
      "the cat sat on the mat, the end. 한국어 한국 한글을 ภาษาไทย ไทย العربية العرب in 2024, 2025!\n\n  x",
      {.pretokenizer = pretokenizer, .vocab_size = 320});
}

}  // namespace terroir
