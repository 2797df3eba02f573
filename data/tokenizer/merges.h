// Byte-pair merges: the learned table, and its application to one word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace terroir {

// (left id, right id) -> rank and id of the merged token.
class MergeTable {
 public:
  struct Merge {
    std::int32_t rank;
    std::int32_t id;
  };
  static constexpr std::int32_t kNoMerge = INT32_MAX;  // a rank after all others

  explicit MergeTable(std::size_t num_merges = 0);
  // REQUIRES: ids are not negative. A pair inserted again takes the later rank and id.
  void insert(std::int32_t left, std::int32_t right, Merge merge);
  // {kNoMerge, -1} for a pair that is not merged.
  Merge find(std::int32_t left, std::int32_t right) const {
    for (std::size_t i = slot_of(left, right);; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.left == left && slot.right == right) return slot.merge;
      if (slot.left < 0) return {kNoMerge, -1};
    }
  }

 private:
  struct Slot {
    std::int32_t left = -1;  // -1: empty
    std::int32_t right = -1;
    Merge merge{kNoMerge, -1};
  };
  std::size_t slot_of(std::int32_t left, std::int32_t right) const {
    const std::uint64_t key =
        std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
    return (key * 0x9E3779B97F4A7C15u >> 20) & mask_;
  }
  std::vector<Slot> slots_;
  std::size_t mask_ = 0;
};

// Merges a word's symbols: again and again the pair of lowest rank, the leftmost of equals, until no pair is
// in the table. Keeps its buffers between words; one object per thread.
class WordMerger {
 public:
  // Merges `symbols` in place and returns how many are left. O(n log n) for n symbols, O(n^2) only below a
  // fixed n.
  std::size_t merge(const MergeTable& table, std::span<std::int32_t> symbols);

 private:
  std::size_t merge_short(const MergeTable& table, std::span<std::int32_t> symbols);
  std::size_t merge_long(const MergeTable& table, std::span<std::int32_t> symbols);

  struct Candidate {
    std::int32_t rank;
    std::uint32_t position;
    std::int32_t left, right;  // the pair it was entered for; another one there now makes it stale
    // For a heap whose top is the lowest rank, then the leftmost.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  void push_candidate(const MergeTable& table, std::span<const std::int32_t> symbols, std::uint32_t position);

  std::vector<MergeTable::Merge> pair_merges_;
  std::vector<Candidate> heap_;
  std::vector<std::uint32_t> next_, previous_;
};

}  // namespace terroir
