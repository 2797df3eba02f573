// Which documents are held out for validation.
#pragma once

#include <cstdint>
#include <set>
#include <utility>

#include "base/hash.h"

namespace terroir {

// A document is held out when the first 64 bits of its content hash, as a fraction of 2^64, are below
// `fraction`: the same document is held out in every build, whatever the seed and the other documents.
// Corpora of fewer than 20 different documents hold none out; larger ones at least one, the one with the
// smallest hash. Fraction 0: none.
class HeldOutRule {
 public:
  static constexpr std::size_t kMinDocuments = 20;

  // REQUIRES: 0 <= fraction <= 0.5.
  explicit HeldOutRule(double fraction);
  // Every document must have been seen before the first question.
  void see(const Hash128& content);
  bool holds_out(const Hash128& content) const;

 private:
  using Key = std::pair<std::uint64_t, std::uint64_t>;
  std::uint64_t threshold_;
  std::set<Key> first_different_;  // up to kMinDocuments
  Key smallest_;
};

}  // namespace terroir
