// A tokenizer of one token per byte, between <|begin_of_text|> = 0 and <|end_of_text|> = 1.
#pragma once

#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train.h"

namespace terroir {

inline Tokenizer byte_tokenizer() {
  TrainOptions options;
  options.vocab_size = 2 + 256;
  return Tokenizer::parse(tokenizer_json(train_bpe(WordCounts{}, options)), "byte_tokenizer");
}

}  // namespace terroir
