// The token corpus as the trainer sees it: any training sample by its global index, any held-out window by
// its number.
//
// A sample is one window of `sequence_length` stored tokens of one source. Which window sample i is follows
// from the options alone (data/mixture), so there is no state to save: resuming, other batch sizes and other
// rank layouts only ask for other indices.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/hash.h"

namespace terroir {

struct SourceConfig {
  std::string name;                 // unique; part of the order's key
  std::vector<std::string> shards;  // paths or globs of .h5 files; both splits, told apart by their attribute
  std::string language, license;    // empty: as the shards say; otherwise the shards must say the same
};

struct StageConfig {
  // (source name, weight >= 0). Weights are relative: each is rounded to millionths of their sum.
  std::vector<std::pair<std::string, double>> weights;
  std::int64_t first_sample =
      0;  // the stage begins at this global sample; 0 for the first stage, then increasing
};

struct CorpusOptions {
  std::vector<SourceConfig> sources;
  std::vector<StageConfig> stages;
  std::int64_t sequence_length = 0;
  std::uint64_t seed = 0;
  std::string tokenizer_sha256;  // shards of another tokenizer are refused
  std::int64_t vocab_size = 0;   // of the model; shards may use fewer ids, never more
  // Tokens the order moves as one piece, a multiple of every sequence length of the run. 0: the smallest
  // multiple of sequence_length that is at least 65536. [format]: another value is another order.
  std::int64_t cell_tokens = 0;
};

// `count` windows; every array but `source` is row-major [count, sequence_length].
struct SampleBatch {
  std::int64_t count = 0;
  std::int64_t sequence_length = 0;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> targets;    // the next token of the same document; -1: none
  std::vector<std::int32_t> positions;  // from 0 at the window's start and at each document's start
  std::vector<std::int32_t> documents;  // number of the document inside the window, from 0
  std::vector<std::int32_t> source;     // [count], index into CorpusOptions::sources
};

// Every const function may be called from several threads at once.
class Corpus {
 public:
  // Opens every shard and checks structure, tokenizer and index hashes; token blocks are checked when first
  // read. Throws UserError: exit 2 with the configuration key (nothing matches, unknown source, bad weight),
  // exit 3 with the shard (damaged, another tokenizer, too few tokens for one window).
  explicit Corpus(CorpusOptions options);
  ~Corpus();
  Corpus(Corpus&&) noexcept;
  Corpus& operator=(Corpus&&) noexcept;

  const CorpusOptions& options() const;
  int num_sources() const;
  const std::string& source_name(int source) const;
  const std::string& source_language(int source) const;  // as the shards say
  const std::string& source_license(int source) const;
  std::int64_t num_tokens(int source) const;  // stored training tokens
  std::int64_t num_validation_tokens(int source) const;
  // Windows that one pass over the source's training tokens gives.
  std::int64_t windows_per_epoch(int source) const;
  // Windows drawn from `source` by global samples [0, num_samples); divided by windows_per_epoch(): epochs.
  std::int64_t windows_drawn(int source, std::int64_t num_samples) const;

  // Training samples [first_sample, first_sample + count). Any indices >= 0: a source that runs out starts
  // its next epoch in another order. `out` is resized, its capacity reused. Throws UserError (exit 3) that
  // names shard and block when stored tokens do not match their hash.
  void read(std::int64_t first_sample, std::int64_t count, SampleBatch& out) const;

  // Held-out windows of one source, in stored order. The last one is padded with token 0 and target -1, as a
  // document of its own, so that every held-out token is predicted once.
  std::int64_t num_validation_samples(int source) const;
  // REQUIRES: first + count <= num_validation_samples(source).
  void read_validation(int source, std::int64_t first, std::int64_t count, SampleBatch& out) const;

  // Identity of the order: options that matter to it and the content of every training shard, not where they
  // lie. Ranks compare it at start; a checkpoint stores it.
  Hash128 plan_hash() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace terroir
