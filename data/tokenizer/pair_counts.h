// The pairs of neighbouring tokens in a corpus, most frequent first, kept up to date while merging changes
// them.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace terroir {

struct TokenPair {
  std::int32_t left, right;
  bool operator==(const TokenPair&) const = default;
  auto operator<=>(const TokenPair&) const = default;
};

// Follows Hugging Face's trainer also where it is peculiar, since merges must come out the same: the words of
// a pair are listed when it gains occurrences in them, each list is its own entry in the queue, and a merged
// pair keeps its count. So a pair that reappears (when a token comes about in a second way) counts with its
// former occurrences.
class PairCounts {
 public:
  struct Occurrences {
    TokenPair pair;
    std::uint64_t count;
    std::vector<std::uint32_t> words;
  };

  // `change` more occurrences of `pair` in words like number `word`; negative for fewer. Calls for one word
  // must follow each other without another word between them.
  void add(TokenPair pair, std::int64_t change, std::uint32_t word);
  // Puts the pairs that gained occurrences since the last call into the queue.
  void queue_changed();
  // The pair with most occurrences, of equals the smallest, with the words it gained them in. Nothing when
  // the queue is empty.
  std::optional<Occurrences> pop_most_frequent();

 private:
  struct Pair {
    TokenPair pair;
    std::int64_t count = 0;
    std::vector<std::uint32_t> gained_in;  // words, since the last queue_changed()
  };
  struct Entry {
    std::int64_t count;  // when it was queued; never below the present one
    std::uint32_t pair;  // index into pairs_
    std::uint32_t list;  // index into word_lists_
    TokenPair tokens;
  };
  static bool is_later(const Entry& a, const Entry& b);
  void push(Entry entry);
  std::uint32_t find_or_add(TokenPair pair);
  void grow();
  std::size_t slot_of(TokenPair pair) const;

  std::vector<Pair> pairs_;
  std::vector<std::uint32_t> slots_ =
      std::vector<std::uint32_t>(1024);  // hash table: index into pairs_ plus 1, 0 if empty
  std::vector<std::uint32_t> changed_;   // pairs with words in gained_in
  std::vector<std::vector<std::uint32_t>> word_lists_;
  std::vector<Entry> queue_;  // a heap
};

}  // namespace terroir
