// Shards small enough to check by hand.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "data/loader/corpus.h"
#include "data/shard/shard_writer.h"

namespace terroir {

inline const std::string kTestTokenizer(64, 'a');

// One shard of these documents; ids are 0, 1, 2, ...
inline ShardContent shard_content(const std::vector<std::vector<std::uint32_t>>& documents,
                                  const std::string& split = kTrainSplit, std::int64_t vocab_size = 1000) {
  ShardContent content;
  content.info.source = "test";
  content.info.language = "ko";
  content.info.license = "CC0-1.0";
  content.info.origin = "made up";
  content.info.split = split;
  content.info.tokenizer_sha256 = kTestTokenizer;
  content.info.vocab_size = vocab_size;
  for (const std::vector<std::uint32_t>& document : documents) {
    content.tokens.insert(content.tokens.end(), document.begin(), document.end());
    content.document_offsets.push_back(content.tokens.size());
    content.document_ids.push_back(content.document_ids.size());
  }
  return content;
}

// Documents of `length` tokens that count 0, 1, 2, ... through the whole shard: a token tells where it was
// stored.
inline ShardContent counting_content(std::uint32_t num_tokens, std::uint32_t length,
                                     const std::string& split = kTrainSplit, std::uint32_t first = 0) {
  std::vector<std::vector<std::uint32_t>> documents;
  for (std::uint32_t at = 0; at < num_tokens; at += length) {
    documents.emplace_back();
    for (std::uint32_t i = at; i < std::min(at + length, num_tokens); ++i)
      documents.back().push_back(first + i);
  }
  return shard_content(documents, split, 1 << 20);
}

inline CorpusOptions corpus_options(const std::vector<std::pair<std::string, std::filesystem::path>>& sources,
                                    std::int64_t sequence_length) {
  CorpusOptions options;
  options.stages.emplace_back();
  for (const auto& [name, shards] : sources) {
    options.sources.push_back({name, {shards.string()}, "", ""});
    options.stages[0].weights.emplace_back(name, 1.0);
  }
  options.sequence_length = sequence_length;
  options.seed = 7;
  options.tokenizer_sha256 = kTestTokenizer;
  options.vocab_size = 1 << 20;
  return options;
}

}  // namespace terroir
