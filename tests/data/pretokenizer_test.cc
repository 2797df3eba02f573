// Pre-tokenizers against their regular expressions in PCRE2, and by hand.
#include "data/tokenizer/pretokenizer.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/data/pcre2_regex.h"

namespace terroir {
namespace {

using Words = std::vector<std::string>;

Words words_of(Pretokenizer pretokenizer, std::string_view text) {
  Words words;
  for (WordSplitter splitter(pretokenizer, text); !splitter.done();) words.emplace_back(splitter.next());
  return words;
}

std::string utf8(std::uint32_t code_point) {
  std::string text;
  append_utf8(code_point, text);
  return text;
}

bool is_scalar_value(std::uint32_t code_point) { return code_point < 0xD800 || code_point > 0xDFFF; }

CharClass class_of(std::uint32_t code_point) { return CharClassTable::get().of(code_point); }

CharClass pcre2_class(std::uint32_t code_point) {
  static const std::map<CharClass, Pcre2Regex> classes = [] {
    std::map<CharClass, Pcre2Regex> map;
    map.emplace(CharClass::kLetter, R"(\p{L})");
    map.emplace(CharClass::kNumber, R"(\p{N})");
    map.emplace(CharClass::kNewline, R"([\r\n])");
    map.emplace(CharClass::kSpace, R"([^\S\r\n])");
    return map;
  }();
  for (const auto& [char_class, regex] : classes)
    if (regex.matches(utf8(code_point))) return char_class;
  return CharClass::kOther;
}

// Code points on whose class PCRE2 and we agree; the other ones are looked at in a test of their own.
const std::vector<std::uint32_t>& agreed_code_points() {
  static const std::vector<std::uint32_t> agreed = [] {
    std::vector<std::uint32_t> list;
    for (std::uint32_t c = 0; c < 0x110000; ++c)
      if (is_scalar_value(c) && class_of(c) == pcre2_class(c)) list.push_back(c);
    return list;
  }();
  return agreed;
}

TEST(CharClass, EqualsUtf8procOnEveryAssignedCodePoint) {
  for (std::uint32_t c = 0; c < 0x110000; ++c) {
    const std::string category = utf8proc_category_string(static_cast<utf8proc_int32_t>(c));
    if (category == "Cn" || !is_scalar_value(c)) continue;  // ours may know more
    EXPECT_EQ(class_of(c) == CharClass::kLetter, category[0] == 'L') << std::hex << c;
    EXPECT_EQ(class_of(c) == CharClass::kNumber, category[0] == 'N') << std::hex << c;
  }
}

TEST(CharClass, DiffersFromPcre2OnlyOnWhatItsUnicodeVersionDoesNotKnow) {
  const Pcre2Regex unassigned(R"(\p{Cn})");
  for (std::uint32_t c = 0; c < 0x110000; ++c) {
    if (!is_scalar_value(c) || class_of(c) == pcre2_class(c)) continue;
    // U+180E lost the White_Space property in Unicode 6.3; PCRE2's \s kept it.
    EXPECT_TRUE(unassigned.matches(utf8(c)) || c == 0x180E) << std::hex << c;
  }
}

TEST(Pretokenizer, SplitsByHand) {
  EXPECT_EQ(words_of(Pretokenizer::kGpt2, "I'll say: 12345  times\n\n ok"),
            (Words{"I", "'ll", " say", ":", " 12345", " ", " times", "\n\n", " ok"}));
  EXPECT_EQ(words_of(Pretokenizer::kLlama3, "I'LL say: 12345  times!\n\n ok"),
            (Words{"I", "'LL", " say", ":", " ", "123", "45", " ", " times", "!\n\n", " ok"}));
  EXPECT_EQ(words_of(Pretokenizer::kQwen2, "in 2024"), (Words{"in", " ", "2", "0", "2", "4"}));
  EXPECT_EQ(words_of(Pretokenizer::kLlama3, "한국어를 ชอบมาก"), (Words{"한국어를", " ชอบมาก"}));
}

TEST(Pretokenizer, ContractionsIgnoreCaseAlsoForTheLongS) {
  EXPECT_EQ(words_of(Pretokenizer::kLlama3, "a'ſb"), (Words{"a", "'ſ", "b"}));
  EXPECT_EQ(words_of(Pretokenizer::kGpt2, "a'ſb"), (Words{"a", "'", "ſb"}));
}

TEST(Pretokenizer, InvalidBytesAreOtherCharactersOneByOne) {
  EXPECT_EQ(words_of(Pretokenizer::kLlama3, "ab\xFF\xC3 \xE3\x81!c"),
            (Words{"ab", "\xFF\xC3", " \xE3\x81!", "c"}));
  EXPECT_EQ(words_of(Pretokenizer::kLlama3, "\xED\xA0\x80x"), (Words{"\xED\xA0\x80", "x"}));  // a surrogate
}

TEST(Pretokenizer, NamesAndExpressionsAreFound) {
  for (const Pretokenizer pretokenizer : kPretokenizers) {
    EXPECT_EQ(pretokenizer_by_name(pretokenizer_name(pretokenizer)), pretokenizer);
    EXPECT_EQ(pretokenizer_by_regex(pretokenizer_regex(pretokenizer)), pretokenizer);
  }
  EXPECT_EQ(pretokenizer_by_name("llama"), std::nullopt);
  EXPECT_EQ(pretokenizer_by_regex("\\s+"), std::nullopt);
}

class PretokenizerOracle : public testing::TestWithParam<Pretokenizer> {
 protected:
  void expect_equal(const std::string& text) {
    ASSERT_EQ(words_of(GetParam(), text), regex_.split(text)) << "text: " << testing::PrintToString(text);
  }
  Pcre2Regex regex_{pretokenizer_regex(GetParam())};
};

TEST_P(PretokenizerOracle, EqualOnSoupsOfWhatTheExpressionsTellApart) {
  const std::vector<std::string> pieces = {" ",      " ",
                                           "\n",     "\r",
                                           "\t",     "'",
                                           "s",      "S",
                                           "t",      "D",
                                           "m",      "ll",
                                           "LL",     "ve",
                                           "rE",     "l",
                                           "v",      "r",
                                           "e",      "ſ",
                                           "1",      "٣",
                                           "½",      "한",
                                           "ก",      "์",
                                           "ب",      "\u00A0",
                                           "\u3000", "\u0301",
                                           ".",      "!",
                                           "\x85",   "\u0085",
                                           "\u2028", "😀",
                                           "\u200D", std::string(1, '\0')};
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    for (auto length = random() % 24; length > 0; --length) {
      const std::string& piece = pieces[random() % pieces.size()];
      if (piece != "\x85") text += piece;  // no UTF-8: PCRE2 takes none
    }
    expect_equal(text);
  }
}

TEST_P(PretokenizerOracle, EqualOnCharactersOfAllScripts) {
  const std::vector<std::uint32_t>& code_points = agreed_code_points();
  std::mt19937 random(2);
  for (int i = 0; i < 5'000; ++i) {
    std::string text;
    for (auto length = random() % 40; length > 0; --length) {
      // Half of them from the planes in daily use.
      const std::size_t range = random() % 2 == 0 ? 0x3000 : code_points.size();
      text += utf8(code_points[random() % range]);
      if (random() % 4 == 0) text += " \n'x1"[random() % 5];
    }
    expect_equal(text);
  }
}

TEST_P(PretokenizerOracle, EqualOnLongRuns) {
  for (const std::string piece : {"a", " ", "\n", "1", "!", "'s", " x", "\n ", "e\u0301", "한", "\r\n\t "}) {
    std::string text;
    for (int i = 0; i < 1000; ++i) text += piece;
    expect_equal(text);
    expect_equal(text + "x");
    expect_equal("y" + text + "\n.");
  }
}

INSTANTIATE_TEST_SUITE_P(All, PretokenizerOracle, testing::ValuesIn(kPretokenizers), [](const auto& info) {
  std::string name(pretokenizer_name(info.param));
  std::erase(name, '-');
  return name;
});

TEST(SafeCut, WordsOfBothPartsAreTheWordsOfTheWhole) {
  const std::vector<std::string> pieces = {" ",      "\n",     "\t",   "\r\n",    "a",  "b'",
                                           "'s",     "1",      "22",   "!",       "한", "\u3000",
                                           "\u00A0", "\u0301", "\xFF", "\xE3\x80"};
  std::mt19937 random(3);
  int cuts = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    for (auto length = random() % 16; length > 0; --length) text += pieces[random() % pieces.size()];
    const std::size_t known = random() % (text.size() + 1);  // the cut is chosen before the rest is read
    const std::size_t cut = last_safe_cut(std::string_view(text).substr(0, known));
    if (cut == 0) continue;
    ++cuts;
    for (const Pretokenizer pretokenizer : kPretokenizers) {
      Words both = words_of(pretokenizer, text.substr(0, cut));
      const Words second = words_of(pretokenizer, text.substr(cut));
      both.insert(both.end(), second.begin(), second.end());
      ASSERT_EQ(both, words_of(pretokenizer, text)) << testing::PrintToString(text) << " cut at " << cut;
    }
  }
  EXPECT_GT(cuts, 5'000);
}

TEST(SafeCut, IsFoundNearTheEndOfALongText) {
  std::string text;
  while (text.size() < 100'000) text += "단어 ";
  EXPECT_EQ(last_safe_cut(text), text.size() - 1);                  // before the last space
  EXPECT_EQ(last_safe_cut(std::string(100'000, 'a')), 0U);          // none
  EXPECT_EQ(last_safe_cut("ab " + std::string(100'000, 'a')), 2U);  // far from the end
}

}  // namespace
}  // namespace terroir
