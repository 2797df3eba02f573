#include "data/tokenizer/merges.h"

#include <algorithm>
#include <bit>

namespace terroir {
namespace {

// Below this a scan over all pairs per merge is faster than a heap.
constexpr std::size_t kShortWord = 48;
constexpr std::int32_t kMerged = -1;  // a symbol that is now part of the one to its left

}  // namespace

MergeTable::MergeTable(std::size_t num_merges)
    : slots_(std::bit_ceil(2 * num_merges + 2)), mask_(slots_.size() - 1) {}

void MergeTable::insert(std::int32_t left, std::int32_t right, Merge merge) {
  std::size_t i = slot_of(left, right);
  while (slots_[i].left >= 0 && (slots_[i].left != left || slots_[i].right != right)) i = (i + 1) & mask_;
  slots_[i] = {left, right, merge};
}

std::size_t WordMerger::merge(const MergeTable& table, std::span<std::int32_t> symbols) {
  if (symbols.size() < 2) return symbols.size();
  return symbols.size() < kShortWord ? merge_short(table, symbols) : merge_long(table, symbols);
}

std::size_t WordMerger::merge_short(const MergeTable& table, std::span<std::int32_t> symbols) {
  std::size_t n = symbols.size();
  pair_merges_.resize(n - 1);  // [i]: the merge of symbols i and i + 1
  for (std::size_t i = 0; i + 1 < n; ++i) pair_merges_[i] = table.find(symbols[i], symbols[i + 1]);
  while (n > 1) {
    const auto end = pair_merges_.begin() + static_cast<std::ptrdiff_t>(n - 1);
    const auto best =
        std::min_element(pair_merges_.begin(), end, [](auto a, auto b) { return a.rank < b.rank; });
    if (best->rank == MergeTable::kNoMerge) break;
    const auto i = static_cast<std::size_t>(best - pair_merges_.begin());
    symbols[i] = best->id;
    std::copy(symbols.begin() + static_cast<std::ptrdiff_t>(i) + 2,
              symbols.begin() + static_cast<std::ptrdiff_t>(n),
              symbols.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    std::copy(best + 1, end, best);
    --n;
    if (i > 0) pair_merges_[i - 1] = table.find(symbols[i - 1], symbols[i]);
    if (i + 1 < n) pair_merges_[i] = table.find(symbols[i], symbols[i + 1]);
  }
  return n;
}

void WordMerger::push_candidate(const MergeTable& table, std::span<const std::int32_t> symbols,
                                std::uint32_t position) {
  const std::uint32_t right = next_[position];
  if (right >= symbols.size()) return;
  const MergeTable::Merge merge = table.find(symbols[position], symbols[right]);
  if (merge.rank == MergeTable::kNoMerge) return;
  heap_.push_back({merge.rank, position, symbols[position], symbols[right]});
  std::push_heap(heap_.begin(), heap_.end());
}

std::size_t WordMerger::merge_long(const MergeTable& table, std::span<std::int32_t> symbols) {
  const auto n = static_cast<std::uint32_t>(symbols.size());
  next_.resize(n);
  previous_.resize(n);
  heap_.clear();
  for (std::uint32_t i = 0; i < n; ++i) {
    next_[i] = i + 1;
    previous_[i] = i - 1;  // of the first: not below n
  }
  for (std::uint32_t i = 0; i + 1 < n; ++i) push_candidate(table, symbols, i);
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end());
    const Candidate top = heap_.back();
    heap_.pop_back();
    const std::uint32_t left = top.position, right = next_[left];
    if (right >= n || symbols[left] != top.left || symbols[right] != top.right) continue;
    symbols[left] = table.find(top.left, top.right).id;
    symbols[right] = kMerged;
    next_[left] = next_[right];
    if (next_[left] < n) previous_[next_[left]] = left;
    if (previous_[left] < n) push_candidate(table, symbols, previous_[left]);
    push_candidate(table, symbols, left);
  }
  const auto end = std::remove(symbols.begin(), symbols.end(), kMerged);
  return static_cast<std::size_t>(end - symbols.begin());
}

}  // namespace terroir
