#include "data/tokenizer/pair_counts.h"

#include <algorithm>
#include <utility>

namespace terroir {

void PairCounts::add(TokenPair pair, std::int64_t change, std::uint32_t word) {
  const std::uint32_t index = find_or_add(pair);
  Pair& known = pairs_[index];
  known.count += change;
  if (change <= 0) return;
  if (known.gained_in.empty()) changed_.push_back(index);
  if (known.gained_in.empty() || known.gained_in.back() != word) known.gained_in.push_back(word);
}

void PairCounts::queue_changed() {
  for (const std::uint32_t index : changed_) {
    Pair& pair = pairs_[index];
    std::vector<std::uint32_t> words = std::exchange(pair.gained_in, {});
    if (pair.count <= 0) continue;
    words.shrink_to_fit();
    push({pair.count, index, static_cast<std::uint32_t>(word_lists_.size()), pair.pair});
    word_lists_.push_back(std::move(words));
  }
  changed_.clear();
}

std::optional<PairCounts::Occurrences> PairCounts::pop_most_frequent() {
  while (!queue_.empty()) {
    std::pop_heap(queue_.begin(), queue_.end(), is_later);
    Entry top = queue_.back();
    queue_.pop_back();
    const std::int64_t count = pairs_[top.pair].count;
    if (top.count == count)
      return Occurrences{top.tokens, static_cast<std::uint64_t>(count),
                         std::exchange(word_lists_[top.list], {})};
    top.count = count;
    push(top);
  }
  return std::nullopt;
}

bool PairCounts::is_later(const Entry& a, const Entry& b) {
  if (a.count != b.count) return a.count < b.count;
  if (a.tokens != b.tokens) return a.tokens > b.tokens;
  return a.list > b.list;
}

void PairCounts::push(Entry entry) {
  queue_.push_back(entry);
  std::push_heap(queue_.begin(), queue_.end(), is_later);
}

std::size_t PairCounts::slot_of(TokenPair pair) const {
  const std::size_t mask = slots_.size() - 1;
  const std::uint64_t key =
      std::uint64_t{static_cast<std::uint32_t>(pair.left)} << 32 | static_cast<std::uint32_t>(pair.right);
  std::size_t i = (key * 0x9E3779B97F4A7C15u >> 20) & mask;
  while (slots_[i] != 0 && pairs_[slots_[i] - 1].pair != pair) i = (i + 1) & mask;
  return i;
}

std::uint32_t PairCounts::find_or_add(TokenPair pair) {
  std::size_t slot = slot_of(pair);
  if (slots_[slot] != 0) return slots_[slot] - 1;
  if (2 * (pairs_.size() + 1) > slots_.size()) {
    grow();
    slot = slot_of(pair);
  }
  pairs_.push_back({pair, 0, {}});
  slots_[slot] = static_cast<std::uint32_t>(pairs_.size());
  return slots_[slot] - 1;
}

void PairCounts::grow() {
  slots_.assign(2 * slots_.size(), 0);
  for (std::uint32_t index = 0; index < pairs_.size(); ++index)
    slots_[slot_of(pairs_[index].pair)] = index + 1;
}

}  // namespace terroir
