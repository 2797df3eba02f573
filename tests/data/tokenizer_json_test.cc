// Reading and writing tokenizer.json: what is accepted, and each refusal with its place.
#include "data/tokenizer/tokenizer_json.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "data/tokenizer/byte_alphabet.h"
#include "tests/data/small_tokenizer.h"
#include "tests/support/expect_error.h"

namespace terroir {
namespace {

const Json& valid_file() {
  static const Json json = Json::parse(tokenizer_json(small_parts()));
  return json;
}

TokenizerParts parse(const Json& json) { return parse_tokenizer_json(json.dump(), "t.json"); }

// Expects the valid file, changed, to be refused with these words in the report.
void expect_refused(const std::vector<std::string>& words, const std::function<void(Json&)>& change) {
  Json json = valid_file();
  change(json);
  std::vector<std::string> all = words;
  all.insert(all.begin(), "terroir: error: t.json: ");
  expect_error(ExitCode::kData, all, [&] { parse(json); });
}

TEST(ByteAlphabet, PrintsAllBytesAndReadsThemBack) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.push_back(static_cast<char>(byte));
  EXPECT_EQ(printable_to_bytes(bytes_to_printable(bytes)), bytes);
  EXPECT_EQ(bytes_to_printable(" a\n\xAD"), "\u0120a\u010A\u0143");  // as in GPT-2's vocabulary
  EXPECT_EQ(printable_to_bytes("\u0144"), std::nullopt);             // one after the last stand-in
  EXPECT_EQ(printable_to_bytes(" "), std::nullopt);
}

TEST(TokenizerJson, WritesWhatItReads) {
  for (const Pretokenizer pretokenizer : kPretokenizers) {
    const TokenizerParts parts = small_parts(pretokenizer);
    const std::string text = tokenizer_json(parts);
    const TokenizerParts read = parse_tokenizer_json(text, "t.json");
    EXPECT_EQ(tokenizer_json(read), text);
    EXPECT_EQ(read.tokens, parts.tokens);
    EXPECT_EQ(read.pretokenizer, pretokenizer);
    EXPECT_EQ(read.begin_token, 0);
    EXPECT_EQ(read.end_token, std::nullopt);
  }
}

TEST(TokenizerJson, ReadsMergesAsPairs) {
  Json json = valid_file();
  for (Json& merge : json["model"]["merges"]) {
    const auto text = merge.get<std::string>();
    merge = {text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)};
  }
  EXPECT_EQ(tokenizer_json(parse(json)), tokenizer_json(parse(valid_file())));
}

TEST(TokenizerJson, ReadsWhatGpt2sFileHas) {
  Json json = valid_file();
  json["pre_tokenizer"] = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}};  // no use_regex
  json["post_processor"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", false}};
  json["model"].erase("type");
  json["model"]["continuing_subword_prefix"] = "";
  json["model"]["end_of_word_suffix"] = "";
  const TokenizerParts parts = parse(json);
  EXPECT_EQ(parts.pretokenizer, Pretokenizer::kGpt2);
  EXPECT_EQ(parts.begin_token, std::nullopt);
}

TEST(TokenizerJson, ReadsAddedTokensOutsideTheVocabulary) {  // as in Llama 3's and Qwen's files
  Json json = valid_file();
  const auto n = static_cast<int>(json["model"]["vocab"].size());
  json["added_tokens"].push_back(
      {{"id", n + 1}, {"content", "<|b é|>"}, {"special", true}, {"normalized", false}});
  json["added_tokens"].push_back({{"id", n}, {"content", "<a>"}, {"special", false}, {"normalized", false}});
  const Tokenizer tokenizer = Tokenizer::parse(json.dump(), "t.json");
  EXPECT_EQ(tokenizer.vocab_size(), n + 2);
  EXPECT_EQ(tokenizer.token(n + 1), "<|b é|>");
  EXPECT_EQ(tokenizer.token_bytes()[static_cast<std::size_t>(n)], 3);
  EXPECT_EQ(tokenizer.token_bytes()[static_cast<std::size_t>(n) + 1], 0);
}

TEST(TokenizerJson, LearnsTheTokensAroundATextFromTheTemplate) {
  Json json = valid_file();
  Json& post = json["post_processor"];
  post["single"].push_back({{"SpecialToken", {{"id", "<|end_of_text|>"}, {"type_id", 0}}}});
  post["special_tokens"]["<|end_of_text|>"] = {
      {"id", "<|end_of_text|>"}, {"ids", {1}}, {"tokens", {"<|end_of_text|>"}}};
  post = {{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, post}}};
  const TokenizerParts parts = parse(json);
  EXPECT_EQ(parts.begin_token, 0);
  EXPECT_EQ(parts.end_token, 1);
  // and writes them again
  EXPECT_EQ(parse_tokenizer_json(tokenizer_json(parts), "t.json").end_token, 1);
}

TEST(TokenizerJson, RefusesWhatIsNotJson) {
  expect_error(ExitCode::kData, {"t.json:2:1: not valid JSON"},
               [] { parse_tokenizer_json("{\n", "t.json"); });
  expect_error(ExitCode::kData, {"t.json", "duplicate key \"version\""},
               [] { parse_tokenizer_json(R"({"version": 1, "version": 2})", "t.json"); });
  expect_error(ExitCode::kData, {"nested deeper"},
               [] { parse_tokenizer_json(std::string(100, '['), "t.json"); });
  expect_error(ExitCode::kData, {"must be an object"}, [] { parse_tokenizer_json("[]", "t.json"); });
  expect_error(ExitCode::kData, {"at most 67108864"},
               [] { parse_tokenizer_json(std::string((std::size_t{64} << 20) + 1, ' '), "t.json"); });
}

TEST(TokenizerJson, RefusesOtherModels) {
  expect_refused({"model: is missing"}, [](Json& json) { json.erase("model"); });
  expect_refused({"model.type", "\"Unigram\" is not supported"},
                 [](Json& json) { json["model"]["type"] = "Unigram"; });
  expect_refused({"model.dropout"}, [](Json& json) { json["model"]["dropout"] = 0.1; });
  expect_refused({"model.end_of_word_suffix"},
                 [](Json& json) { json["model"]["end_of_word_suffix"] = "</w>"; });
  expect_refused({"model.continuing_subword_prefix"},
                 [](Json& json) { json["model"]["continuing_subword_prefix"] = "##"; });
  expect_refused({"model.byte_fallback"}, [](Json& json) { json["model"]["byte_fallback"] = true; });
  expect_refused({"model.ignore_merges: must be true or false"},
                 [](Json& json) { json["model"]["ignore_merges"] = 1; });
}

TEST(TokenizerJson, RefusesOtherStepsAroundTheModelAndNamesThoseItKnows) {
  expect_refused({"pre_tokenizer.pretokenizers[0].pattern.Regex", "gpt-2, llama-3, qwen2"},
                 [](Json& json) { json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\w+"; });
  expect_refused({"pre_tokenizer", "only byte-level"}, [](Json& json) { json["pre_tokenizer"] = nullptr; });
  expect_refused({"pre_tokenizer", "only byte-level"}, [](Json& json) {
    json["pre_tokenizer"] = {{"type", "Whitespace"}};
  });
  expect_refused({"pre_tokenizer.pretokenizers[1]", "add_prefix_space"},
                 [](Json& json) { json["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true; });
  expect_refused({"pre_tokenizer", "one Split followed by ByteLevel"},
                 [](Json& json) { json["pre_tokenizer"]["pretokenizers"][1]["use_regex"] = true; });
  expect_refused({"pre_tokenizer.pretokenizers[0]", "Isolated"},
                 [](Json& json) { json["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Removed"; });
  expect_refused({"normalizer", "\"NFKC\" is not supported; null and NFC are"}, [](Json& json) {
    json["normalizer"] = {{"type", "NFKC"}};
  });
  expect_refused({"post_processor", "\"BertProcessing\""}, [](Json& json) {
    json["post_processor"] = {{"type", "BertProcessing"}};
  });
  expect_refused({"decoder", "\"WordPiece\""}, [](Json& json) { json["decoder"] = {{"type", "WordPiece"}}; });
}

TEST(TokenizerJson, RefusesTemplatesItCannotFollow) {
  expect_refused({"post_processor.single[1]", "more than one token"}, [](Json& json) {
    auto& s = json["post_processor"]["single"];
    s.insert(s.begin(), Json(s[0]));
  });
  expect_refused({"post_processor.special_tokens.<|begin_of_text|>: is missing"},
                 [](Json& json) { json["post_processor"]["special_tokens"] = Json::object(); });
  expect_refused({"special_tokens.<|begin_of_text|>.ids: must be one id"}, [](Json& json) {
    json["post_processor"]["special_tokens"]["<|begin_of_text|>"]["ids"] = {0, 1};
  });
  expect_refused({"special_tokens.<|begin_of_text|>.ids: id 5 is not among added_tokens"}, [](Json& json) {
    json["post_processor"]["special_tokens"]["<|begin_of_text|>"]["ids"] = {5};
  });
}

TEST(TokenizerJson, RefusesVocabulariesWithGapsOrDoubles) {
  const auto last = static_cast<int>(valid_file()["model"]["vocab"].size()) - 1;
  expect_refused({"model.vocab.a", "is outside 0.."},
                 [&](Json& json) { json["model"]["vocab"]["a"] = last + 1; });
  expect_refused({"model.vocab.a", "is outside 0.."}, [](Json& json) { json["model"]["vocab"]["a"] = -1; });
  expect_refused({"model.vocab.a: must be an integer"},
                 [](Json& json) { json["model"]["vocab"]["a"] = 1.5; });
  expect_refused({"model.vocab.", "is used twice"},
                 [](Json& json) { json["model"]["vocab"]["a"] = json["model"]["vocab"]["b"]; });
  expect_refused({"has no token \"a\" for byte 97"}, [](Json& json) {
    Json& vocabulary = json["model"]["vocab"];
    vocabulary["aaaa"] = vocabulary["a"];
    vocabulary.erase("a");
  });
  expect_refused({"model.vocab", "stands for no byte"},
                 [&](Json& json) { json["model"]["vocab"]["한"] = last + 1; });
  expect_refused({"model.vocab", "1 to 65535 bytes"},
                 [&](Json& json) { json["model"]["vocab"][""] = last + 1; });
  expect_refused({"model.vocab.aaa", "...", "1 to 65535 bytes"},
                 [&](Json& json) { json["model"]["vocab"][std::string(65536, 'a')] = last + 1; });
  expect_refused({"model.vocab: must be an object"}, [](Json& json) { json["model"]["vocab"] = 3; });
}

TEST(TokenizerJson, RefusesAddedTokensThatDoNotFit) {
  const auto n = static_cast<int>(valid_file()["model"]["vocab"].size());
  const auto token = [](int id, const std::string& content) {
    return Json{{"id", id}, {"content", content}};
  };
  expect_refused({"added_tokens[2].id", "used twice"},
                 [&](Json& json) { json["added_tokens"].push_back(token(7, "<x>")); });
  expect_refused({"added_tokens[2].id", "no gaps"},
                 [&](Json& json) { json["added_tokens"].push_back(token(n + 1, "<x>")); });
  expect_refused({"model.vocab.<|begin_of_text|>", "has id 0 here and 1"},
                 [](Json& json) { json["added_tokens"][0]["id"] = 1; });
  expect_refused({"added_tokens[2].content", "listed twice"},
                 [&](Json& json) { json["added_tokens"].push_back(token(n, "<|end_of_text|>")); });
  expect_refused({"added_tokens[2].content", "is empty"},
                 [&](Json& json) { json["added_tokens"].push_back(token(n, "")); });
  expect_refused({"added_tokens[0].lstrip"}, [](Json& json) { json["added_tokens"][0]["lstrip"] = true; });
  expect_refused({"stand for other bytes"}, [&](Json& json) {
    json["model"]["vocab"]["é"] = json["model"]["vocab"]["é"];
    json["added_tokens"].push_back(token(json["model"]["vocab"]["é"], "é"));
  });
}

TEST(TokenizerJson, RefusesMergesOutsideTheVocabulary) {
  expect_refused({"model.merges[0]", "\"zq\" is not in model.vocab"},
                 [](Json& json) { json["model"]["merges"][0] = "zq a"; });
  expect_refused({"model.merges[1]", "\"zq\" is not in model.vocab"},
                 [](Json& json) { json["model"]["merges"][1] = "z q"; });
  expect_refused({"model.merges[0]", "one space"}, [](Json& json) { json["model"]["merges"][0] = "ab"; });
  expect_refused({"model.merges[0]", "one space"}, [](Json& json) { json["model"]["merges"][0] = "a b c"; });
  expect_refused({"model.merges[0]", "two parts"}, [](Json& json) { json["model"]["merges"][0] = {"a"}; });
  expect_refused({"model.merges[0][1]: must be a string"}, [](Json& json) {
    json["model"]["merges"][0] = {"a", 1};
  });
  expect_refused({"model.merges: must be an array"}, [](Json& json) { json["model"]["merges"] = "a b"; });
}

TEST(TokenizerJson, ACutOrChangedFileNeverPassesAsAnotherTokenizer) {
  const std::string text = tokenizer_json(small_parts());
  for (std::size_t length = 0; length + 2 < text.size(); length += 97)
    expect_error(ExitCode::kData, {"t.json"},
                 [&] { parse_tokenizer_json(text.substr(0, length), "t.json"); });
}

}  // namespace
}  // namespace terroir
