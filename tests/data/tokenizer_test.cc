#include "data/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "data/tokenizer/nfc.h"
#include "tests/data/small_tokenizer.h"
#include "tests/support/temporary_folder.h"

namespace terroir {
namespace {

using Ids = std::vector<std::int32_t>;

std::string random_bytes(std::mt19937& random, std::size_t length) {
  std::string text;
  while (text.size() < length) text.push_back(static_cast<char>(random() % 256));
  return text;
}

const std::vector<std::string>& hostile_texts() {
  static const std::vector<std::string> texts = {"",
                                                 " ",
                                                 "\n",
                                                 std::string(1, '\0'),
                                                 std::string("\0\0a\0", 4),
                                                 "\xFF\xFE",
                                                 "\xED\xA0\x80",
                                                 "\xF4\x90\x80\x80",
                                                 "e\u0301\u0323\u0301",
                                                 "👩‍👩‍👧‍👦",
                                                 "שלום\u200F \u202Eevil\u202C",
                                                 "a\r\n\r\n\tb",
                                                 "ﷺ½Ⅷ",
                                                 "\U0010FFFF\uFDD0",
                                                 std::string(100'000, 'a'),
                                                 std::string(100'000, ' '),
                                                 std::string(50'000, '\xCC'),
                                                 "<|begin_of_text|>"};
  return texts;
}

class TokenizerRoundTrip : public testing::TestWithParam<Pretokenizer> {};

TEST_P(TokenizerRoundTrip, AnyBytesComeBack) {
  const Tokenizer tokenizer = tokenizer_from(small_parts(GetParam()));
  std::vector<std::string> texts = hostile_texts();
  std::mt19937 random(5);
  for (std::size_t i = 0; i < 300; ++i) texts.push_back(random_bytes(random, i));
  for (const std::string& text : texts)
    for (const SpecialTokens special : {SpecialTokens::kAsText, SpecialTokens::kRecognized})
      ASSERT_EQ(tokenizer.decode(tokenizer.encode(text, special)), text)
          << testing::PrintToString(text.substr(0, 80));
}

TEST_P(TokenizerRoundTrip, StreamedIdsGiveTheSameBytes) {
  const Tokenizer tokenizer = tokenizer_from(small_parts(GetParam()));
  std::mt19937 random(6);
  for (std::size_t i = 0; i < 200; ++i) {
    const std::string text = random_bytes(random, i);
    StreamDecoder decoder(tokenizer);
    std::string streamed;
    for (const std::int32_t id : tokenizer.encode(text)) streamed += decoder.push(id);
    ASSERT_EQ(streamed + decoder.finish(), text);
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerRoundTrip, testing::ValuesIn(kPretokenizers), [](const auto& info) {
  std::string name(pretokenizer_name(info.param));
  std::erase(name, '-');
  return name;
});

// Special tokens 0 and 1; bytes from 2 on in the order '!' .. '~' (33 .. 126), U+00A1 .. U+00AC, ..., and the
// space, 0x20, stands as U+0120: 'a' is 2 + 97 - 33 = 66, 'b' 67, 'c' 68, the space 2 + 188 + 32 = 222.
// Merges: "ab" 258, " ab" 259, " abc" 260.
TokenizerParts abc_parts() {
  return train_on("ab ab abc", {.pretokenizer = Pretokenizer::kGpt2, .vocab_size = 300});
}

TEST(Tokenizer, EncodesByHand) {
  const Tokenizer tokenizer = tokenizer_from(abc_parts());
  EXPECT_EQ(tokenizer.vocab_size(), 261);
  EXPECT_EQ(tokenizer.encode("ab abc cab"), (Ids{258, 260, 222, 68, 258}));
  EXPECT_EQ(tokenizer.decode(Ids{258, 260, 222, 68, 258}), "ab abc cab");
  EXPECT_EQ(tokenizer.token(260), " abc");
  EXPECT_EQ(tokenizer.encode(""), Ids{});
}

TEST(Tokenizer, LeftmostOfEqualPairsMergesFirst) {
  // (a,a) 258: from "aaa" the first two.
  const Tokenizer tokenizer =
      tokenizer_from(train_on("aa", {.pretokenizer = Pretokenizer::kGpt2, .vocab_size = 259}));
  EXPECT_EQ(tokenizer.encode("aaa"), (Ids{258, 66}));
}

TEST(Tokenizer, LongWordsMergeAsShortOnesDo) {
  const TokenizerParts parts =
      train_on("abababab abab bab aab", {.pretokenizer = Pretokenizer::kGpt2, .vocab_size = 275});
  MergeTable table(parts.merges.size());
  for (std::size_t rank = 0; rank < parts.merges.size(); ++rank)
    table.insert(parts.merges[rank].left, parts.merges[rank].right,
                 {static_cast<std::int32_t>(rank), parts.merges[rank].result});
  std::mt19937 random(8);
  WordMerger merger;
  for (int i = 0; i < 300; ++i) {
    Ids symbols(random() % 200);
    for (std::int32_t& symbol : symbols) symbol = random() % 3 == 0 ? 66 : 67;  // a, b
    Ids expected = symbols;
    for (;;) {  // the definition: lowest rank, leftmost, one at a time
      std::size_t best = expected.size();
      for (std::size_t j = 0; j + 1 < expected.size(); ++j)
        if (table.find(expected[j], expected[j + 1]).rank <
            (best == expected.size() ? MergeTable::kNoMerge
                                     : table.find(expected[best], expected[best + 1]).rank))
          best = j;
      if (best == expected.size()) break;
      expected[best] = table.find(expected[best], expected[best + 1]).id;
      expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    symbols.resize(merger.merge(table, symbols));
    ASSERT_EQ(symbols, expected);
  }
}

TEST(Tokenizer, SpecialTokensAreTextUnlessAskedFor) {
  const Tokenizer tokenizer = tokenizer_from(abc_parts());
  const std::string text = "ab<|end_of_text|>ab<|begin_of_text|";
  EXPECT_EQ(tokenizer.encode(text, SpecialTokens::kRecognized)[1], 1);
  const Ids as_text = tokenizer.encode(text);
  EXPECT_EQ(std::count_if(as_text.begin(), as_text.end(), [](auto id) { return id < 2; }), 0);
  EXPECT_EQ(tokenizer.decode(as_text), text);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, SpecialTokens::kRecognized)), text);
}

TEST(Tokenizer, KnowsItsSpecialTokensAndTokenLengths) {
  const Tokenizer tokenizer = tokenizer_from(abc_parts());
  EXPECT_EQ(tokenizer.bos_id(), 0);
  EXPECT_EQ(tokenizer.eos_id(), 1);
  EXPECT_TRUE(tokenizer.is_special(1));
  EXPECT_FALSE(tokenizer.is_special(2));
  EXPECT_EQ(tokenizer.added_token_id("<|end_of_text|>"), 1);
  EXPECT_EQ(tokenizer.added_token_id("ab"), std::nullopt);
  EXPECT_EQ(tokenizer.token_bytes()[0], 0);
  EXPECT_EQ(tokenizer.token_bytes()[66], 1);
  EXPECT_EQ(tokenizer.token_bytes()[260], 4);
  EXPECT_EQ(tokenizer.token_bytes().size(), 261U);
}

TEST(Tokenizer, WithoutTemplateNothingBeginsADocument) {
  TokenizerParts parts = abc_parts();
  parts.begin_token.reset();
  EXPECT_EQ(tokenizer_from(parts).bos_id(), std::nullopt);
}

TEST(Tokenizer, OtherAddedTokensAreAlwaysRecognizedTheLongestFirst) {
  TokenizerParts parts = abc_parts();
  for (const char* content : {"<tool", "<tool_call>"}) {
    parts.added_tokens.push_back(
        {static_cast<std::int32_t>(parts.tokens.size()), content, /*special=*/false});
    parts.tokens.push_back(content);
  }
  const Tokenizer tokenizer = tokenizer_from(parts);
  EXPECT_EQ(tokenizer.encode("ab<tool_call>ab<tool"), (Ids{258, 262, 258, 261}));
  EXPECT_EQ(tokenizer.token_bytes()[262], 11);
}

TEST(Tokenizer, IgnoreMergesTakesAWholeWordThatIsAToken) {
  TokenizerParts parts = abc_parts();
  parts.merges.resize(1);  // only a + b
  EXPECT_EQ(tokenizer_from(parts).encode(" abc"), (Ids{222, 258, 68}));
  parts.ignore_merges = true;
  EXPECT_EQ(tokenizer_from(parts).encode(" abc"), (Ids{260}));
  EXPECT_EQ(tokenizer_from(parts).encode(" abcc"), (Ids{222, 258, 68, 68}));
}

TEST(Tokenizer, NfcIsAppliedBeforeWordsAndNormalizedTokens) {
  TokenizerParts parts = abc_parts();
  parts.nfc = true;
  parts.added_tokens.push_back({261, "e\u0301t", /*special=*/false, /*normalized=*/true});
  parts.tokens.push_back("e\u0301t");
  const Tokenizer tokenizer = tokenizer_from(parts);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("e\u0301 \u1112\u1161\u11AB")), "é 한");
  EXPECT_EQ(tokenizer.encode("ét"), (Ids{261}));
  EXPECT_EQ(tokenizer.encode("e\u0301t"), (Ids{261}));
}

TEST(Tokenizer, OneStateServesSeveralTokenizers) {
  const Tokenizer first = tokenizer_from(abc_parts());
  const Tokenizer second = tokenizer_from(small_parts());
  EncoderState state;
  for (int i = 0; i < 3; ++i)
    for (const Tokenizer* tokenizer : {&first, &second}) {
      Ids ids;
      tokenizer->encode(" abc the cat 한국어", SpecialTokens::kAsText, state, ids);
      EXPECT_EQ(ids, tokenizer->encode(" abc the cat 한국어"));
    }
}

TEST(Tokenizer, MoreWordsThanTheCacheHoldsChangeNothing) {
  const Tokenizer tokenizer = tokenizer_from(abc_parts());
  EncoderState state;
  std::string text;
  for (int i = 0; i < 150'000; ++i) text += " ab" + std::to_string(i) + "x";
  Ids ids;
  tokenizer.encode(text, SpecialTokens::kAsText, state, ids);
  EXPECT_EQ(tokenizer.decode(ids), text);
  const std::size_t once = ids.size();
  tokenizer.encode(text, SpecialTokens::kAsText, state, ids);
  EXPECT_TRUE(std::equal(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(once),
                         ids.begin() + static_cast<std::ptrdiff_t>(once), ids.end()));
}

TEST(Tokenizer, EncodesFromSeveralThreads) {
  const Tokenizer tokenizer = tokenizer_from(small_parts());
  const std::string text = "the cat 한국어 ภาษาไทย 2024";
  const Ids expected = tokenizer.encode(text);
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int& count : wrong)
    threads.emplace_back([&] {
      EncoderState state;
      for (int i = 0; i < 200; ++i) {
        Ids ids;
        tokenizer.encode(text, SpecialTokens::kAsText, state, ids);
        count += ids != expected;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(Tokenizer, LoadKeepsTheFileAsItWas) {
  const TemporaryFolder folder;
  const std::string text = tokenizer_json(abc_parts());
  write_file_atomically(folder / "t.json", text);
  const Tokenizer tokenizer = Tokenizer::load(folder / "t.json");
  EXPECT_EQ(tokenizer.json(), text);
  EXPECT_EQ(tokenizer.sha256(), sha256_hex(text));
}

TEST(Tokenizer, IdsOutsideTheVocabularyAreOurBug) {
  const Tokenizer tokenizer = tokenizer_from(abc_parts());
  EXPECT_THROW(tokenizer.decode(Ids{261}), ContractError);
  EXPECT_THROW(tokenizer.token(-1), ContractError);
}

TEST(StreamDecoder, NeverSplitsACharacter) {
  const Tokenizer tokenizer = tokenizer_from(abc_parts());  // no merges: each byte of 한 is a token
  StreamDecoder decoder(tokenizer);
  std::vector<std::string> parts;
  for (const std::int32_t id : tokenizer.encode("a한b")) parts.push_back(decoder.push(id));
  EXPECT_EQ(parts, (std::vector<std::string>{"a", "", "", "한", "b"}));
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoder, HandsOutBytesThatCannotBecomeACharacter) {
  const Tokenizer tokenizer = tokenizer_from(abc_parts());
  StreamDecoder decoder(tokenizer);
  std::vector<std::string> parts;
  for (const std::int32_t id : tokenizer.encode("\xED\xA0\xE2\x82")) parts.push_back(decoder.push(id));
  EXPECT_EQ(parts, (std::vector<std::string>{"", "\xED\xA0", "", ""}));  // ED A0 would be a surrogate
  EXPECT_EQ(decoder.finish(), "\xE2\x82");
}

TEST(Nfc, ComposesAndKeepsInvalidBytes) {
  EXPECT_EQ(to_nfc("e\u0301a\u030A x"), "éå x");
  EXPECT_EQ(to_nfc("q\u0307\u0323"), "q\u0323\u0307");  // canonical order
  EXPECT_EQ(to_nfc("\u0344"), "\u0308\u0301");          // never composed again
  EXPECT_EQ(to_nfc("\xFF"
                   "e\u0301\xC3"),
            "\xFFé\xC3");
  EXPECT_EQ(to_nfc("ＡＢｶﾞ"), "ＡＢｶﾞ");  // compatibility forms stay
}

TEST(Nfc, ALongRunOfMarksTakesNoQuadraticTime) {
  std::string text = "e";
  for (int i = 0; i < 200'000; ++i) text += "\u0301\u0323";
  const std::string normalized = to_nfc(text);
  EXPECT_EQ(normalized.substr(0, 5), "ẹ\u0323");  // all marks below come first; the first of them composes
  EXPECT_EQ(normalized.size(), text.size());      // ẹ has 3 bytes, as e and one mark
}

}  // namespace
}  // namespace terroir
