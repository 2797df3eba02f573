// Shuffles more documents than fit in memory.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "base/philox.h"

namespace terroir {

struct TokenizedDocument {
  Hash128 content;       // XXH3-128 of the text: what makes two documents the same
  std::uint64_t id = 0;  // document_ids of the format
  std::uint32_t text_bytes = 0;
  std::vector<std::uint32_t> tokens;
};

// The order is by a keyed hash of the content: a function of the set of documents and the seed, not of how
// the input was cut into files or of the number of threads. Equal texts get equal keys, so that duplicates
// meet. Documents go to 256 buckets by their key's first bits; what exceeds `memory_bytes` lies in one spill
// file. Reading needs the memory of the largest bucket, about total / 256.
class DocumentBuckets {
 public:
  static constexpr int kNumBuckets = 256;

  // The spill file is created, when needed, in `folder`, and loses its name at once: it goes with the
  // process.
  DocumentBuckets(std::uint64_t seed, std::filesystem::path folder, std::uint64_t memory_bytes);

  // SystemError when the spill file cannot be written (exit 5: disk full).
  void add(const TokenizedDocument& document);

  // Documents of bucket 0, 1, ... kNumBuckets - 1 are the documents in order. Of equal texts the one added
  // first stays. REQUIRES: each bucket is taken once, after the last add().
  std::vector<TokenizedDocument> take(int bucket);
  std::int64_t duplicates() const { return duplicates_; }  // dropped by take() so far

 private:
  struct Extent {
    std::uint64_t offset = 0, num_words = 0;
  };
  struct Bucket {
    std::vector<std::uint32_t> words;  // records, see document_buckets.cc
    std::vector<Extent> spilled;       // earlier records, in order
  };
  PhiloxCounter order_key(const Hash128& content) const;
  void spill();
  std::vector<std::uint32_t> records(Bucket& bucket) const;

  PhiloxKey key_;
  std::filesystem::path folder_;
  std::uint64_t memory_bytes_;
  std::uint64_t buffered_words_ = 0;
  std::array<Bucket, kNumBuckets> buckets_;
  FileDescriptor spill_file_;
  std::uint64_t spill_bytes_ = 0;
  std::int64_t duplicates_ = 0;
};

}  // namespace terroir
