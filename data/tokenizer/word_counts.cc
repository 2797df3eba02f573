#include "data/tokenizer/word_counts.h"

#include <algorithm>
#include <numeric>

#include "base/file.h"
#include "base/parallel_for.h"

namespace terroir {
namespace {

// The first piece of `text`, which ends between words if it is not the last.
std::size_t piece_length(std::string_view text, std::size_t piece_bytes) {
  if (text.size() <= piece_bytes) return text.size();
  const std::size_t cut = last_safe_cut(text.substr(0, piece_bytes));
  if (cut > 0) return cut;
  const std::size_t partial_char = incomplete_utf8_suffix(text.substr(0, piece_bytes));
  return piece_bytes - (partial_char < piece_bytes ? partial_char : 0);
}

}  // namespace

void WordCounts::add(std::string_view word, std::uint64_t count) {
  const std::uint32_t index = words.intern(word);
  if (index == counts.size()) counts.push_back(0);
  counts[index] += count;
}

WordCounts WordCounter::count_words(Pretokenizer pretokenizer, const Piece& piece) {
  WordCounts counts;
  std::size_t begin = 0;
  for (const std::size_t end : piece.ends) {
    const std::string_view text = std::string_view(piece.bytes).substr(begin, end - begin);
    for (WordSplitter words(pretokenizer, text); !words.done();) counts.add(words.next(), 1);
    begin = end;
  }
  return counts;
}

void WordCounter::add_text(std::string_view text) {
  bytes_added_ += text.size();
  while (!text.empty()) {
    const std::size_t length = piece_length(text, options_.piece_bytes);
    add_to_piece(text.substr(0, length));
    text.remove_prefix(length);
  }
}

void WordCounter::add_file(const std::filesystem::path& path) {
  const InputFile file(path);
  if (!std::filesystem::is_regular_file(path)) return add_text(read_file(path));  // a pipe has no size
  std::string text;                                                               // read, not yet handed on
  for (std::uint64_t offset = 0; offset < file.size();) {
    const std::size_t carried = text.size();
    text.resize(carried + std::min<std::uint64_t>(options_.piece_bytes, file.size() - offset));
    file.read_at(offset, std::as_writable_bytes(std::span(text)).subspan(carried));
    offset += text.size() - carried;
    const bool is_last = offset == file.size();
    while (text.size() > options_.piece_bytes || (is_last && !text.empty())) {
      const std::size_t length = piece_length(text, options_.piece_bytes);
      add_to_piece(std::string_view(text).substr(0, length));
      text.erase(0, length);
    }
  }
  bytes_added_ += file.size();
}

void WordCounter::add_to_piece(std::string_view text) {
  if (waiting_.empty() || waiting_.back().bytes.size() + text.size() > options_.piece_bytes) {
    if (waiting_.size() >= static_cast<std::size_t>(options_.num_threads)) count_waiting();
    waiting_.emplace_back();
  }
  waiting_.back().bytes += text;
  waiting_.back().ends.push_back(waiting_.back().bytes.size());
}

void WordCounter::count_waiting() {
  std::vector<WordCounts> counts(waiting_.size());
  parallel_for(options_.num_threads, static_cast<std::int64_t>(waiting_.size()), 1,
               [&](std::int64_t begin, std::int64_t end) {
                 for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
                   counts[i] = count_words(options_.pretokenizer, waiting_[i]);
               });
  waiting_.clear();
  // In the order of the text, and after each piece the same look at the limit: whatever the number of
  // threads.
  for (const WordCounts& piece : counts) {
    for (std::uint32_t i = 0; i < piece.words.size(); ++i) total_.add(piece.words.at(i), piece.counts[i]);
    if (total_.words.size() > options_.max_words) drop_rarest();
  }
}

void WordCounter::drop_rarest() {
  std::vector<std::uint32_t> order(total_.words.size());
  std::iota(order.begin(), order.end(), 0U);
  const std::uint32_t kept = options_.max_words / 2;
  std::nth_element(order.begin(), order.begin() + kept, order.end(),
                   [this](std::uint32_t a, std::uint32_t b) {
                     if (total_.counts[a] != total_.counts[b]) return total_.counts[a] > total_.counts[b];
                     return total_.words.at(a) < total_.words.at(b);
                   });
  words_dropped_ += order.size() - kept;
  order.resize(kept);
  std::sort(order.begin(), order.end());
  WordCounts rest;
  for (const std::uint32_t i : order) rest.add(total_.words.at(i), total_.counts[i]);
  total_ = std::move(rest);
}

WordCounts WordCounter::take() {
  count_waiting();
  return std::move(total_);
}

}  // namespace terroir
