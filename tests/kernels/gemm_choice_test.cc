#include "kernels/matmul/gemm_choice.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"

namespace terroir {
namespace {

AlgorithmWords words(std::uint64_t first) { return {first, 0, 0xFFFFFFFFFFFFFFFF, 3, 4, 5, 6, 7}; }

GemmChoiceList list(std::uint64_t first, const char* library = "cuBLASLt 130100 on some GPU") {
  return {library, {{"m1 n2 k3 TN", to_hex(words(first)), 12.5}, {"m4 n5 k6 NT", to_hex(words(9)), 0}}};
}

TEST(GemmChoice, SurvivesJson) {
  const std::string text = to_json(list(1));
  EXPECT_EQ(gemm_choices_from_json(text, "choices.json"), list(1));
  EXPECT_EQ(gemm_choices_from_json(to_json({}), "choices.json"), GemmChoiceList{});
}

TEST(GemmChoice, DamagedJsonNamesTheFile) {
  const auto message = [](const std::string& text) -> std::string {
    try {
      gemm_choices_from_json(text, "choices.json");
    } catch (const UserError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kCheckpoint);
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message("{").find("choices.json"), std::string::npos);
  EXPECT_NE(message(R"({"choices": []})").find("library"), std::string::npos);
  EXPECT_NE(message(R"({"library": "x", "choices": 3})").find("list"), std::string::npos);
  EXPECT_NE(message(R"({"library": "x", "choices": [{"key": "k", "algorithm": "12", "us": 1}]})").find("128"),
            std::string::npos);
}

TEST(GemmChoice, AlgorithmIsSixteenDigitsAWord) {
  EXPECT_EQ(to_hex(words(0xAB)).substr(0, 20), "00000000000000ab0000");
  EXPECT_EQ(algorithm_from_hex(to_hex(words(0xAB))), words(0xAB));
  EXPECT_FALSE(algorithm_from_hex("00"));
  EXPECT_FALSE(algorithm_from_hex(std::string(128, 'g')));
  EXPECT_FALSE(algorithm_from_hex(std::string(127, '0') + " "));
}

TEST(GemmChoice, AdoptedChoiceHoldsForItsLibraryOnly) {
  GemmChoices choices;
  choices.made = list(2);
  const int before = choices.generation();
  choices.adopt(list(1));
  EXPECT_GT(choices.generation(), before);
  EXPECT_TRUE(choices.made.choices.empty());
  EXPECT_EQ(choices.wanted(list(1).library, "m1 n2 k3 TN"), list(1).choices[0]);
  EXPECT_FALSE(choices.wanted(list(1).library, "m7 n7 k7 NN"));
  EXPECT_FALSE(choices.wanted("cuBLASLt 140000 on some GPU", "m1 n2 k3 TN"));
}

TEST(GemmChoice, RanksAgreeOnTheFirstListThatHasAProduct) {
  const std::string a = to_hex(words(1)), b = to_hex(words(2));
  const GemmChoiceList lists[] = {{},  // chose nothing
                                  {"lib", {{"x", a, 3}, {"y", a, 0}}},
                                  {"other", {{"x", b, 1}, {"v", b, 1}}},  // another GPU
                                  {"lib", {{"y", b, 2}, {"z", b, 2}}}};
  EXPECT_EQ(agreed_choices(lists), (GemmChoiceList{"lib", {{"x", a, 3}, {"y", a, 0}, {"z", b, 2}}}));
  EXPECT_EQ(agreed_choices({}), GemmChoiceList{});
}

TEST(GemmChoice, ChangesAreAnnounced) {
  EXPECT_TRUE(changed_choices(list(1), list(1)).empty());
  const std::vector<std::string> changes = changed_choices(list(1), list(2));
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_NE(changes[0].find("m1 n2 k3 TN"), std::string::npos);
  ASSERT_EQ(changed_choices(list(1), list(1, "cuBLASLt 140000 on some GPU")).size(), 1U);
  EXPECT_TRUE(changed_choices({}, list(1)).empty());
}

TEST(GemmChoice, NoiseDoesNotChooseBetweenEquals) {
  EXPECT_EQ(fastest({10.1, 10.0, 30}), 0U);  // 1 % apart: the library's first
  EXPECT_EQ(fastest({10.5, 10.0, 30}), 1U);
  EXPECT_EQ(fastest({std::numeric_limits<double>::infinity(), 10.0}), 1U);
}

}  // namespace
}  // namespace terroir
