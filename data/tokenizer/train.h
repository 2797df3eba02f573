// Learning byte-pair merges.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizer/tokenizer_json.h"
#include "data/tokenizer/word_counts.h"

namespace terroir {

inline constexpr const char* kBeginOfText = "<|begin_of_text|>";
inline constexpr const char* kEndOfText = "<|end_of_text|>";

// No longer token is learned: a text that repeats one letter would give ones of any length. The longest in
// public vocabularies have a few hundred bytes.
inline constexpr std::size_t kMaxMergedBytes = 1024;

struct TrainOptions {
  Pretokenizer pretokenizer = Pretokenizer::kLlama3;  // the one the words were counted with
  // Special tokens, the 256 bytes and merged tokens together.
  std::int32_t vocab_size = 0;
  // A pair that occurs less often is not merged.
  std::uint64_t min_frequency = 0;
  // They get the ids 0, 1, ... kBeginOfText, if among them, is put before each text by the file's
  // post-processor.
  std::vector<std::string> special_tokens = {kBeginOfText, kEndOfText};
};

// All that is wrong with the options, one message each; empty when training can begin.
std::vector<std::string> validate(const TrainOptions& options);

// The tokenizer Hugging Face's BpeTrainer learns from the same words with the ByteLevel alphabet: the same
// ids and the same merges in the same order. Each step merges the most frequent pair; of equally frequent
// ones, the pair of smallest ids. Ids: special tokens, bytes in the order of the characters that stand for
// them, merged tokens as learned. Stops early, with a smaller vocabulary, when no pair is left or none occurs
// min_frequency times. REQUIRES: validate(options) is empty.
TokenizerParts train_bpe(const WordCounts& words, const TrainOptions& options);

}  // namespace terroir
