#include "data/tokenizer/train.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>

#include "base/file.h"
#include "tests/data/small_tokenizer.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace terroir {
namespace {

std::vector<std::string> merged_tokens(const TokenizerParts& parts) {
  std::vector<std::string> tokens;
  for (const TokenizerParts::Merge& merge : parts.merges)
    tokens.push_back(parts.tokens[static_cast<std::size_t>(merge.left)] + "+" +
                     parts.tokens[static_cast<std::size_t>(merge.right)]);
  return tokens;
}

// Words of a few syllables in several scripts, with a long tail.
std::string random_text(unsigned seed, std::size_t bytes) {
  const std::vector<std::string> syllables = {"ba", "ne", "ko", "한", "국", "어", "ไท",
                                              "ย",  "عر", "بي", "ặ",  "12", "7"};
  std::mt19937 random(seed);
  std::string text;
  while (text.size() < bytes) {
    for (auto n = 1 + random() % (1 + random() % 5); n > 0; --n)
      text += syllables[random() % (1 + random() % syllables.size())];
    text += random() % 9 == 0 ? "\n" : " ";
  }
  return text;
}

std::vector<std::pair<std::string, std::uint64_t>> sorted(const WordCounts& counts) {
  std::vector<std::pair<std::string, std::uint64_t>> list;
  for (std::uint32_t i = 0; i < counts.words.size(); ++i)
    list.emplace_back(counts.words.at(i), counts.counts[i]);
  std::sort(list.begin(), list.end());
  return list;
}

// Words: "ab" once, " ab" and " abc" once each. Pairs: ab 3, " a" 2, bc 1. After a+b: " "+ab 2, ab+c 1. After
// " "+ab: " ab"+c 1. Then no pair is left.
TEST(Train, MergesByHand) {
  const TokenizerParts parts =
      train_on("ab ab abc", {.pretokenizer = Pretokenizer::kGpt2, .vocab_size = 300});
  EXPECT_EQ(merged_tokens(parts), (std::vector<std::string>{"a+b", " +ab", " ab+c"}));
  EXPECT_EQ(parts.tokens.size(), 2U + 256U + 3U);
  EXPECT_EQ(parts.tokens[0], "<|begin_of_text|>");
  EXPECT_EQ(parts.tokens[2], "!");
  EXPECT_EQ(parts.tokens[258], "ab");
}

// ba, dc and " d" occur twice each: ba has the smallest ids, then dc; " "+dc is then the pair of two.
TEST(Train, EquallyFrequentPairsMergeInTheOrderOfTheirIds) {
  const TokenizerParts parts =
      train_on("ba ba dc dc", {.pretokenizer = Pretokenizer::kGpt2, .vocab_size = 300});
  EXPECT_EQ(merged_tokens(parts), (std::vector<std::string>{"b+a", "d+c", " +dc", " +ba"}));
}

TEST(Train, StopsAtTheVocabularySizeAndAtTheMinimumFrequency) {
  EXPECT_EQ(train_on("ab ab abc", {.pretokenizer = Pretokenizer::kGpt2, .vocab_size = 259}).tokens.size(),
            259U);
  const TokenizerParts parts =
      train_on("ab ab abc", {.pretokenizer = Pretokenizer::kGpt2, .vocab_size = 300, .min_frequency = 2});
  EXPECT_EQ(merged_tokens(parts), (std::vector<std::string>{"a+b", " +ab"}));
}

TEST(Train, AnEmptyTextGivesTheBytes) { EXPECT_EQ(train_on("", {.vocab_size = 1000}).tokens.size(), 258U); }

TEST(Train, InvalidBytesMergeLikeOthers) {
  const TokenizerParts parts = train_on("\xFF\xFE \xFF\xFE", {.vocab_size = 259});
  EXPECT_EQ(parts.tokens[258], "\xFF\xFE");
}

TEST(Train, NoTokenIsLongerThanTheLimit) {
  const TokenizerParts parts = train_on(std::string(1 << 17, 'a'), {.vocab_size = 1000});
  EXPECT_EQ(parts.tokens.size(), 258U + 10U);  // 2, 4, ..., 1024 letters
  EXPECT_EQ(parts.tokens.back().size(), kMaxMergedBytes);
}

TEST(Train, SpecialTokensComeFirstAndOnlyTheDefaultOneBeginsATextIfGiven) {
  const TokenizerParts parts =
      train_on("ab", {.vocab_size = 300, .special_tokens = {"<|pad|>", "<|begin_of_text|>"}});
  EXPECT_EQ(parts.tokens[0], "<|pad|>");
  EXPECT_EQ(parts.begin_token, 1);
  EXPECT_EQ(train_on("ab", {.vocab_size = 300, .special_tokens = {"<|pad|>"}}).begin_token, std::nullopt);
  EXPECT_EQ(train_on("ab", {.vocab_size = 300, .special_tokens = {}}).tokens[0], "!");
}

TEST(Train, OptionsThatCannotWorkAreAllNamed) {
  EXPECT_EQ(validate({.vocab_size = 258}), std::vector<std::string>{});
  EXPECT_EQ(validate({.vocab_size = 257}).size(), 1U);
  EXPECT_EQ(validate({.vocab_size = 1, .special_tokens = {"the", "", "a b", "<x>", "<x>"}}).size(), 5U);
  EXPECT_THROW(train_bpe(WordCounts{}, {.vocab_size = 1}), ContractError);
}

TEST(WordCounter, CountsDoNotDependOnThreadsOrPieces) {
  const std::string text = random_text(1, 200'000);
  WordCounter whole({.num_threads = 1});
  whole.add_text(text);
  const auto expected = sorted(whole.take());
  for (const int num_threads : {1, 2, 5})
    for (const std::size_t piece_bytes : {1'000, 7'777, 1'000'000}) {
      WordCounter counter({.num_threads = num_threads, .piece_bytes = piece_bytes});
      counter.add_text(text);
      EXPECT_EQ(sorted(counter.take()), expected) << num_threads << " threads, pieces of " << piece_bytes;
    }
}

TEST(WordCounter, DroppedWordsDoNotDependOnThreads) {
  const std::string text = random_text(2, 300'000);
  std::optional<std::vector<std::pair<std::string, std::uint64_t>>> first;
  for (const int num_threads : {1, 2, 3, 8}) {
    WordCounter counter({.num_threads = num_threads, .max_words = 1000, .piece_bytes = 10'000});
    counter.add_text(text);
    WordCounts counts = counter.take();
    EXPECT_LE(counts.words.size(), 1000U);
    EXPECT_GT(counter.words_dropped(), 0U);
    if (!first) first = sorted(counts);
    EXPECT_EQ(sorted(counts), *first) << num_threads;
  }
}

TEST(WordCounter, DropsTheRarestAndOfEqualsTheLastInByteOrder) {
  WordCounter counter({.pretokenizer = Pretokenizer::kGpt2, .max_words = 4});
  counter.add_text("a\nb\nc\nd\na\nc\n");  // a, b, c, d and the line end: five words, two are kept
  EXPECT_EQ(sorted(counter.take()),
            (std::vector<std::pair<std::string, std::uint64_t>>{{"\n", 6}, {"a", 2}}));
}

TEST(WordCounter, AFileIsCountedAsItsText) {
  const TemporaryFolder folder;
  const std::string text = random_text(3, 100'000);
  write_file_atomically(folder / "text.txt", text);
  WordCounter whole({});
  whole.add_text(text);
  const auto expected = sorted(whole.take());
  for (const std::size_t piece_bytes : {999, 100'000, 8'000'000}) {
    WordCounter counter({.num_threads = 2, .piece_bytes = piece_bytes});
    counter.add_file(folder / "text.txt");
    EXPECT_EQ(counter.bytes_added(), text.size());
    EXPECT_EQ(sorted(counter.take()), expected);
  }
}

TEST(WordCounter, TextsDoNotRunIntoEachOther) {
  WordCounter counter({.pretokenizer = Pretokenizer::kGpt2});
  counter.add_text("ab");
  counter.add_text("cd");
  EXPECT_EQ(sorted(counter.take()),
            (std::vector<std::pair<std::string, std::uint64_t>>{{"ab", 1}, {"cd", 1}}));
}

TEST(WordCounter, AWordLongerThanAPieceIsCutBetweenCharacters) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "한";
  WordCounter counter({.piece_bytes = 100});
  counter.add_text(text);
  for (const auto& [word, count] : sorted(counter.take())) EXPECT_EQ(word.size() % 3, 0U) << word;
}

TEST(WordCounter, AMissingFileIsTheUsersMistake) {
  WordCounter counter({});
  expect_error(ExitCode::kUsage, {"/no/such/file"}, [&] { counter.add_file("/no/such/file"); });
}

TEST(StringTable, NumbersStringsInTheOrderTheyCome) {
  StringTable table;
  std::vector<std::string> strings;
  for (int i = 0; i < 5000; ++i)
    strings.push_back(std::string(static_cast<std::size_t>(i % 40), 'x') + std::to_string(i));
  for (std::uint32_t i = 0; i < strings.size(); ++i) ASSERT_EQ(table.intern(strings[i]), i);
  for (std::uint32_t i = 0; i < strings.size(); ++i) {
    ASSERT_EQ(table.intern(strings[i]), i);
    ASSERT_EQ(table.find(strings[i]), i);
    ASSERT_EQ(table.at(i), strings[i]);
  }
  EXPECT_EQ(table.find("y"), std::nullopt);
  EXPECT_EQ(table.intern(""), 5000U);
  table.clear();
  EXPECT_EQ(table.size(), 0U);
  EXPECT_EQ(table.find(strings[7]), std::nullopt);
}

}  // namespace
}  // namespace terroir
