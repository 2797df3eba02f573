// How often each word of a corpus occurs: what byte-pair training needs of it. Memory is bounded, text is
// streamed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/pretokenizer.h"
#include "data/tokenizer/string_table.h"

namespace terroir {

// Words with their counts, in order of first appearance.
struct WordCounts {
  StringTable words;
  std::vector<std::uint64_t> counts;
  void add(std::string_view word, std::uint64_t count);
};

struct WordCounterOptions {
  Pretokenizer pretokenizer = Pretokenizer::kLlama3;
  int num_threads = 1;
  // Distinct words kept. When a piece of text brings more, the rarest are dropped (of equals, the last in
  // byte order) until half as many are left. A word costs its length and 30 to 50 bytes here, then 8 times
  // its length during the merging.
  std::uint32_t max_words = 5'000'000;
  // Text is counted in pieces of about this size, cut between words. The result depends on it when words are
  // dropped, and a word longer than a piece is cut.
  std::size_t piece_bytes = std::size_t{8} << 20;
};

// Counts the words of texts. The result does not depend on the number of threads.
class WordCounter {
 public:
  explicit WordCounter(WordCounterOptions options) : options_(options) {}

  // Adds a whole text: a document.
  void add_text(std::string_view text);
  // Adds a file's bytes as one text, a few pieces in memory at a time. A missing file is a UserError (exit
  // 2).
  void add_file(const std::filesystem::path& path);
  // Counts what is waiting and gives the result away. The counter must not be used after.
  WordCounts take();

  std::uint64_t bytes_added() const { return bytes_added_; }
  // Distinct words dropped so far because there were more than max_words.
  std::uint64_t words_dropped() const { return words_dropped_; }

 private:
  // Texts to be counted by one thread: end to end, text i ends at ends[i].
  struct Piece {
    std::string bytes;
    std::vector<std::size_t> ends;
  };
  void add_to_piece(std::string_view text);
  void count_waiting();
  void drop_rarest();
  static WordCounts count_words(Pretokenizer pretokenizer, const Piece& piece);

  WordCounterOptions options_;
  std::vector<Piece> waiting_;  // at most num_threads; the last one may still grow
  WordCounts total_;
  std::uint64_t bytes_added_ = 0;
  std::uint64_t words_dropped_ = 0;
};

}  // namespace terroir
