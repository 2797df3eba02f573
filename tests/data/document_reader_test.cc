#include "data/corpus/document_reader.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include <fstream>

#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace terroir {
namespace {

class DocumentReaderTest : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return folder_ / name;
  }
  static std::string compress(const std::string& text) {
    std::string out(ZSTD_compressBound(text.size()), '\0');
    out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
    return out;
  }
  std::vector<std::string> texts(const std::filesystem::path& path, ReaderOptions options = {}) {
    DocumentReader reader(path, options);
    std::vector<std::string> all;
    for (Document document; reader.next(document);) all.push_back(document.text);
    return all;
  }
  void refuses(ExitCode code, const std::vector<std::string>& words, const std::string& name,
               const std::string& bytes, ReaderOptions options = {}) {
    const std::filesystem::path path = write(name, bytes);
    expect_error(code, words, [&] { texts(path, options); });
  }
  TemporaryFolder folder_;
};

using Texts = std::vector<std::string>;

TEST_F(DocumentReaderTest, EachLineOfTextIsADocument) {
  EXPECT_EQ(texts(write("a.txt", "하나\nhai\n")), (Texts{"하나", "hai"}));
  EXPECT_EQ(texts(write("a.txt", "no newline at the end")), (Texts{"no newline at the end"}));
  EXPECT_EQ(texts(write("a.txt", "")), (Texts{}));
}

TEST_F(DocumentReaderTest, EmptyLinesCarriageReturnsAndByteOrderMarkAreNotText) {
  EXPECT_EQ(texts(write("a.txt", "\xEF\xBB\xBFone\r\n\r\n\n two \r\nthr\ree\n")),
            (Texts{"one", " two ", "thr\ree"}));
}

TEST_F(DocumentReaderTest, LinesMayBeLongerThanTheBuffer) {
  const std::string line(3 << 20, 'x');
  EXPECT_EQ(texts(write("a.txt", line + "\nshort\n" + line)), (Texts{line, "short", line}));
}

TEST_F(DocumentReaderTest, RefusesLinesOverTheLimit) {
  ReaderOptions options;
  options.max_line_bytes = 10;
  EXPECT_EQ(texts(write("a.txt", "0123456789\n"), options), (Texts{"0123456789"}));
  refuses(ExitCode::kData, {"a.txt:2:", "10 bytes"}, "a.txt", "short\n0123456789a\n", options);
}

TEST_F(DocumentReaderTest, ReadsJsonLines) {
  DocumentReader reader(write("a.jsonl",
                              "{\"text\": \"a\\nb\", \"id\": \"x1\"}\n\n{\"id\": 7, \"text\": \"c\"}\n"
                              "{\"text\": \"\"}\n{\"text\": \"d\", \"more\": [1, {}]}"),
                        {});
  Document document;
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.text, "a\nb");
  EXPECT_EQ(document.id, "x1");
  EXPECT_EQ(document.line, 1);
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.id, "7");
  EXPECT_EQ(document.line, 3);
  ASSERT_TRUE(reader.next(document));
  EXPECT_EQ(document.text, "d");
  EXPECT_FALSE(document.id.has_value());
  EXPECT_FALSE(reader.next(document));
  EXPECT_EQ(reader.empty_texts(), 1);
}

TEST_F(DocumentReaderTest, TakesTheTextFromTheKeyAsked) {
  ReaderOptions options;
  options.text_key = "content";
  EXPECT_EQ(texts(write("a.jsonl", "{\"content\": \"here\", \"text\": \"not here\"}\n"), options),
            (Texts{"here"}));
}

TEST_F(DocumentReaderTest, RefusesMalformedJsonAtItsPlace) {
  const std::string good = "{\"text\": \"a\"}\n";
  refuses(ExitCode::kData, {"a.jsonl:2:10: ", "not valid JSON"}, "a.jsonl", good + "{\"text\": oops}\n");
  refuses(ExitCode::kData, {"a.jsonl:2:"}, "a.jsonl", good + "{\"text\": \"cut\n");
  refuses(ExitCode::kData, {"a.jsonl:2: ", "duplicate key \"text\""}, "a.jsonl",
          good + "{\"text\": \"a\", \"text\": \"b\"}\n");
  refuses(ExitCode::kData, {"a.jsonl:2: text: is missing"}, "a.jsonl", good + "{\"txt\": \"a\"}\n");
  refuses(ExitCode::kData, {"a.jsonl:2: text: must be a string"}, "a.jsonl", good + "{\"text\": 5}\n");
  refuses(ExitCode::kData, {"a.jsonl:2: id: must be a string"}, "a.jsonl",
          good + "{\"text\": \"a\", \"id\": null}\n");
  refuses(ExitCode::kData, {"a.jsonl:2: must be an object"}, "a.jsonl", good + "[1]\n");
}

TEST_F(DocumentReaderTest, NamesTheByteThatIsNotUtf8) {
  refuses(ExitCode::kData, {"a.txt:2:4: ", "0xff", "--invalid-utf8 replace"}, "a.txt", "fine\nabc\xff\n");
  refuses(ExitCode::kData, {"a.txt:1:1: ", "0xed"}, "a.txt", "\xed\xa0\x80\n");  // a surrogate
  refuses(ExitCode::kData, {"a.txt:1:3: ", "0xe2"}, "a.txt", "ab\xe2\x82");      // cut short
  refuses(ExitCode::kData, {"a.jsonl:1:12: ", "0xc0"}, "a.jsonl", "{\"text\": \"a\xc0\xaf\"}\n");
}

TEST_F(DocumentReaderTest, ReplacesInvalidBytesWhenAsked) {
  ReaderOptions options;
  options.invalid_utf8 = InvalidUtf8::kReplace;
  EXPECT_EQ(texts(write("a.txt", "a\xff\xfe z\n\xe2\x82\n"), options),
            (Texts{"a\uFFFD\uFFFD z", "\uFFFD\uFFFD"}));
  EXPECT_EQ(texts(write("a.jsonl", "{\"text\": \"a\xc0\"}\n"), options), (Texts{"a\uFFFD"}));
}

TEST_F(DocumentReaderTest, ReadsCompressedFiles) {
  std::string text;
  for (int i = 0; i < 200000; ++i) text += "line " + std::to_string(i) + "\n";
  const Texts lines = texts(write("a.txt", text));
  EXPECT_EQ(lines.size(), 200000u);
  EXPECT_EQ(texts(write("a.txt.zst", compress(text))), lines);
  // Frames one after another, as zstd -T and cat make them; one of them empty.
  EXPECT_EQ(texts(write("a.txt.zst", compress("one\ntw") + compress("") + compress("o\n"))),
            (Texts{"one", "two"}));
  EXPECT_EQ(texts(write("a.jsonl.zst", compress("{\"text\": \"a\"}\n"))), (Texts{"a"}));
}

TEST_F(DocumentReaderTest, RefusesDamagedCompression) {
  std::string text;
  for (int i = 0; i < 40000; ++i) text += std::to_string(i * i);
  const std::string packed = compress(text);
  refuses(ExitCode::kData, {"a.txt.zst", "Zstandard"}, "a.txt.zst", "not compressed at all");
  for (const std::size_t size : {packed.size() - 1, packed.size() / 2, std::size_t{3}})
    refuses(ExitCode::kData, {"a.txt.zst", "ends early"}, "a.txt.zst", packed.substr(0, size));
}

TEST_F(DocumentReaderTest, ReadsAnyNameAsTextWhenAsked) {
  ReaderOptions options;
  options.any_name_is_text = true;
  EXPECT_EQ(texts(write("README", "one\ntwo\n"), options), (Texts{"one", "two"}));
  EXPECT_EQ(texts(write("a.jsonl", "{\"text\": \"a\"}\n"), options), (Texts{"a"}));
}

TEST_F(DocumentReaderTest, RefusesUnknownExtensionsFoldersAndMissingFiles) {
  refuses(ExitCode::kUsage, {"a.csv", ".jsonl"}, "a.csv", "x");
  expect_error(ExitCode::kUsage, {"none.txt", "No such file"}, [&] { texts(folder_ / "none.txt"); });
  std::filesystem::create_directory(folder_ / "dir.txt");
  expect_error(ExitCode::kUsage, {"dir.txt", "folder"}, [&] { texts(folder_ / "dir.txt"); });
}

}  // namespace
}  // namespace terroir
