// `terroir tokenizer` as scripts use it: the program itself, its standard streams and exit codes.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <random>

#include "base/file.h"
#include "base/json.h"
#include "data/tokenizer/tokenizer.h"
#include "tests/support/temporary_folder.h"

namespace terroir {
namespace {

struct Result {
  int exit_code = 0;
  std::string out, error;
};

class TokenizerCommand : public testing::Test {
 protected:
  void SetUp() override {
    write("text.txt", "the cat sat on the mat.\n한국어 문장, 한국 사람.\nภาษาไทย\n");
    const Result trained = run("train --vocab-size 300 --out " + path("t.json") + " " + path("text.txt"));
    ASSERT_EQ(trained.exit_code, 0) << trained.error;
  }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  void write(const std::string& name, const std::string& text) const {
    write_file_atomically(folder_ / name, text);
  }
  std::string read(const std::string& name) const { return read_file(folder_ / name); }

  Result run(const std::string& arguments, const std::string& standard_input = "") const {
    write("stdin", standard_input);
    const std::string command = std::string(TERROIR_PROGRAM) + " tokenizer " + arguments + " < " +
                                path("stdin") + " > " + path("stdout") + " 2> " + path("stderr");
    const int status = std::system(command.c_str());
    return {WEXITSTATUS(status), read("stdout"), read("stderr")};
  }
  std::string with_tokenizer(const std::string& command) const {
    return command + " --tokenizer " + path("t.json") + " ";
  }

  const TemporaryFolder folder_;
};

TEST_F(TokenizerCommand, EncodeAndDecodeAreInversesOfEachOtherForAnyBytes) {
  std::mt19937 random(1);
  std::string bytes;
  for (int i = 0; i < 3000; ++i) bytes.push_back(static_cast<char>(random() % 256));
  for (const std::string& text : {bytes, std::string(), std::string("\r\n\0x\n", 5)}) {
    const Result encoded = run(with_tokenizer("encode"), text);
    EXPECT_EQ(encoded.error, "");
    EXPECT_EQ(run(with_tokenizer("decode"), encoded.out).out, text);
  }
}

TEST_F(TokenizerCommand, EncodePrintsTheIdsOfAFileOrOfStandardInput) {
  const Tokenizer tokenizer = Tokenizer::load(path("t.json"));
  const std::string text = read("text.txt");
  const std::string expected = Json(tokenizer.encode(text)).dump() + "\n";
  EXPECT_EQ(run(with_tokenizer("encode") + path("text.txt")).out, expected);
  EXPECT_EQ(run(with_tokenizer("encode"), text).out, expected);
}

TEST_F(TokenizerCommand, EncodeLinesPrintsOneArrayALine) {
  const Tokenizer tokenizer = Tokenizer::load(path("t.json"));
  const std::string expected =
      Json(tokenizer.encode("the cat")).dump() + "\n[]\n" + Json(tokenizer.encode("mat\r")).dump() + "\n";
  EXPECT_EQ(run(with_tokenizer("encode") + "--lines", "the cat\n\nmat\r").out, expected);
  EXPECT_EQ(run(with_tokenizer("encode") + "--lines", "the cat\n\nmat\r\n").out, expected);
}

TEST_F(TokenizerCommand, EncodeOutWritesLittleEndianIds) {
  write("one.txt", "<|end_of_text|>");
  const Result result =
      run(with_tokenizer("encode") + "--special --out " + path("ids.u32") + " " + path("one.txt"));
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(read("ids.u32"), std::string("\1\0\0\0", 4));
}

TEST_F(TokenizerCommand, SpecialTokensAreTextUnlessAskedFor) {
  EXPECT_EQ(run(with_tokenizer("encode") + "--special", "<|end_of_text|>").out, "[1]\n");
  const Json ids = Json::parse(run(with_tokenizer("encode"), "<|end_of_text|>").out);
  EXPECT_GT(ids.size(), 5U);
}

TEST_F(TokenizerCommand, DecodeNamesTheIdThatIsNoToken) {
  const Result result = run(with_tokenizer("decode"), "[5, 300]");
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.error, "terroir: error: standard input: [1]: token id 300 is outside 0..299\n");
  EXPECT_EQ(run(with_tokenizer("decode"), "[-1]").exit_code, 3);
}

TEST_F(TokenizerCommand, DecodeRefusesWhatIsNoArrayOfIds) {
  for (const std::string input :
       {"[1, 2", "", "{}", "[1.5]", "[\"1\"]", "[99999999999999999999]", "[1] [2]"}) {
    const Result result = run(with_tokenizer("decode"), input);
    EXPECT_EQ(result.exit_code, 3) << input;
    EXPECT_EQ(result.out, "") << input;
    EXPECT_TRUE(result.error.starts_with("terroir: error: standard input:")) << result.error;
  }
}

TEST_F(TokenizerCommand, TheNumberOfThreadsDoesNotChangeTheFile) {
  const std::string first = read("t.json");
  for (const char* threads : {"1", "3"}) {
    run("train --vocab-size 300 --threads " + std::string(threads) + " --out " + path("again.json") + " " +
        path("text.txt"));
    EXPECT_EQ(read("again.json"), first);
  }
}

TEST_F(TokenizerCommand, TrainSaysWhenTheTextIsTooSmall) {
  const Result result =
      run("train --vocab-size 5000 --json --out " + path("u.json") + " " + path("text.txt"));
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_NE(result.error.find("warning"), std::string::npos) << result.error;
  const Json report = Json::parse(result.out);
  EXPECT_EQ(report["vocab_size"], Tokenizer::load(path("u.json")).vocab_size());
  EXPECT_LT(report["vocab_size"], 5000);
}

TEST_F(TokenizerCommand, TrainRefusesWhatCannotWorkAndWritesNothing) {
  const std::string out = " --out " + path("none.json") + " ";
  const std::string text = path("text.txt");
  EXPECT_EQ(run("train --vocab-size 100" + out + text).exit_code, 2);
  EXPECT_EQ(run("train --vocab-size 300 --special-token the" + out + text).exit_code, 2);
  EXPECT_EQ(run("train --vocab-size 300 --pretokenizer bert" + out + text).exit_code, 2);
  EXPECT_EQ(run("train --vocab-size 300" + out + path("missing.txt")).exit_code, 2);
  EXPECT_EQ(run("train --vocab-size 300" + out).exit_code, 2);
  const Result folder = run("train --vocab-size 300 --out " + path("no/folder/t.json") + " " + text);
  EXPECT_EQ(folder.exit_code, 2);
  EXPECT_NE(folder.error.find("no/folder/t.json: its folder does not exist"), std::string::npos)
      << folder.error;
  EXPECT_FALSE(std::filesystem::exists(folder_ / "none.json"));
}

TEST_F(TokenizerCommand, MissingFilesAndRefusedTokenizersAreNamed) {
  const Result missing = run("encode --tokenizer " + path("missing.json"), "x");
  EXPECT_EQ(missing.exit_code, 2);
  EXPECT_NE(missing.error.find("missing.json"), std::string::npos);
  EXPECT_EQ(run(with_tokenizer("encode") + path("missing.txt")).exit_code, 2);
  write("bad.json", "{\"model\": {\"type\": \"Unigram\", \"vocab\": {}}}");
  const Result refused = run("encode --tokenizer " + path("bad.json"), "x");
  EXPECT_EQ(refused.exit_code, 3);
  EXPECT_NE(refused.error.find("bad.json: model.type: "), std::string::npos) << refused.error;
}

TEST_F(TokenizerCommand, ReportGivesTheFiguresOfEachFile) {
  write("ab.txt", "ab ab\n한");  // 5 + 1 + 3 bytes, 7 characters, 3 words
  write("empty.txt", "");
  const Result result = run(with_tokenizer("report") + "--json " + path("ab.txt") + " " + path("empty.txt"));
  const Json report = Json::parse(result.out);
  EXPECT_EQ(report["vocab_size"], 300);
  const Json& row = report["files"][0];
  EXPECT_EQ(row["bytes"], 9);
  EXPECT_EQ(row["characters"], 7);
  EXPECT_EQ(row["words"], 3);
  const auto tokens = static_cast<double>(Tokenizer::load(path("t.json")).encode("ab ab\n한").size());
  EXPECT_EQ(row["tokens"], tokens);
  EXPECT_DOUBLE_EQ(row["bytes_per_token"], 9 / tokens);
  EXPECT_DOUBLE_EQ(row["tokens_per_word"], tokens / 3);
  EXPECT_DOUBLE_EQ(row["characters_per_token"], 7 / tokens);
  EXPECT_TRUE(report["files"][1]["bytes_per_token"].is_null());
  EXPECT_NE(run(with_tokenizer("report") + path("ab.txt")).out.find("ab.txt"), std::string::npos);
}

TEST_F(TokenizerCommand, ReportCountsTheBytesThatNoMergeReaches) {
  write("new.txt", "x뷁");  // three bytes that the training text has in no such order; x is a character
  const Json row = Json::parse(run(with_tokenizer("report") + "--json " + path("new.txt")).out)["files"][0];
  EXPECT_EQ(row["single_byte_tokens"], 3);
  EXPECT_DOUBLE_EQ(row["single_byte_share"], 3.0 / 4);
}

TEST_F(TokenizerCommand, ExtendIsRefusedByName) {
  const Result result = run("extend --tokenizer " + path("t.json"));
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.error.find("tokenizer extend is planned but not built yet"), std::string::npos)
      << result.error;
}

}  // namespace
}  // namespace terroir
