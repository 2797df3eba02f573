// launch/extract_text.pl: what it takes from each format, what it leaves, and that its lines are strict JSON.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/json.h"
#include "tests/support/temporary_folder.h"

namespace terroir {
namespace {

using namespace std::string_literals;

std::string u16(unsigned value) { return {static_cast<char>(value), static_cast<char>(value >> 8)}; }
std::string u32(unsigned value) { return u16(value & 0xffff) + u16(value >> 16); }

// Version 5, UTF-8; ids count from 1.
std::string pak_file(const std::vector<std::string>& resources) {
  std::string file = u32(5) + "\1\0\0\0"s + u16(resources.size()) + u16(0);
  unsigned offset = 12 + 6 * (resources.size() + 1);
  for (std::size_t i = 0; i <= resources.size(); ++i) {
    file += u16(i + 1) + u32(offset);
    if (i < resources.size()) offset += resources[i].size();
  }
  for (const auto& resource : resources) file += resource;
  return file;
}

// Header, table of originals (all empty here), table of translations; the first entry is the catalogue's
// header.
std::string mo_file(std::vector<std::string> translations) {
  translations.insert(translations.begin(), "Content-Type: text/plain; charset=UTF-8 and five more words\n");
  const unsigned count = translations.size();
  const unsigned text_begin = 28 + 16 * count;
  std::string file = u32(0x950412de) + u32(0) + u32(count) + u32(28) + u32(28 + 8 * count) + u32(0) + u32(0);
  for (unsigned i = 0; i < count; ++i) file += u32(0) + u32(text_begin);
  unsigned offset = text_begin;
  for (const auto& translation : translations) {
    file += u32(translation.size()) + u32(offset);
    offset += translation.size() + 1;
  }
  for (const auto& translation : translations) file += translation + '\0';
  return file;
}

class ExtractText : public testing::Test {
 protected:
  // Runs the script over files of one format and returns its documents.
  std::vector<Json> extract(const std::string& language, const std::string& format,
                            const std::vector<std::string>& files) {
    std::ofstream list(folder_ / "list.tsv");
    for (std::size_t i = 0; i < files.size(); ++i) {
      const std::string path = folder_ / ("input" + std::to_string(i));
      std::ofstream(path, std::ios::binary) << files[i];
      list << format << "\tsource-x\tMPL-2.0\tpackage x 1.0\t" << path << "\n";
    }
    list.close();
    const std::string run = "perl " TERROIR_SOURCE_DIR "/launch/extract_text.pl " + language + " " +
                            file("summary.tsv") + " < " + file("list.tsv") + " > " + file("out.jsonl");
    EXPECT_EQ(std::system(run.c_str()), 0);
    return documents();
  }

  std::string file(const std::string& name) const { return folder_ / name; }

  std::string summary() const {
    std::ostringstream text;
    text << std::ifstream(file("summary.tsv")).rdbuf();
    return text.str();
  }

 private:
  std::vector<Json> documents() const {
    std::vector<Json> found;
    std::ifstream lines(file("out.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      found.push_back(parse_json(line, "out.jsonl", ExitCode::kData));
    }
    return found;
  }

  TemporaryFolder folder_;
};

TEST_F(ExtractText, DocumentCarriesSourceLicenceAndOrigin) {
  const auto documents = extract("en", "lines", {"one line, one document\nand a second\n"});
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0], (Json{{"id", "source-x/000000"},
                                {"text", "one line, one document"},
                                {"source", "source-x"},
                                {"license", "MPL-2.0"},
                                {"origin", "package x 1.0"}}));
  EXPECT_EQ(documents[1]["id"], "source-x/000001");
  EXPECT_EQ(summary(), "en\tsource-x\tMPL-2.0\t2\t34\n");  // 22 + 12 bytes
}

TEST_F(ExtractText, QuotesBackslashesAndControlCharactersAreEscapedOrDropped) {
  const auto documents = extract("en", "lines", {"say \"yes\" \\ or\tnot\x01 \xc2\x85 so\r\n"});
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_EQ(documents[0]["text"], "say \"yes\" \\ or not so");
}

TEST_F(ExtractText, InvalidUtf8IsLeftOut) {
  EXPECT_TRUE(extract("en", "lines", {"the \xff byte\n"}).empty());
}

TEST_F(ExtractText, MarkupGivesParagraphsWithoutTagsScriptsAndEntities) {
  const auto documents = extract("ko", "markup",
                                 {"<html><head><title>제목은 본문에 들어가지 않는 "
                                  "글이다</title></head><body><script>var 변수 = 1;</script>"
                                  "<p>오늘은 <b>날씨가</b> 아주\n맑고 좋아요 &amp; "
                                  "따뜻해요.</p><p>메뉴</p><li>내일은 비가 조금 올 것 같아요.</li>"});
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_EQ(documents[0]["text"],
            "오늘은 날씨가 아주 맑고 좋아요 & 따뜻해요.\n내일은 비가 조금 올 것 같아요.");
}

TEST_F(ExtractText, UntranslatedTextIsLeftOut) {
  const std::string english = "<p>This paragraph was never translated by anybody.</p>";
  EXPECT_TRUE(extract("ko", "markup", {english}).empty());
  EXPECT_TRUE(extract("vi", "markup", {english}).empty());
  EXPECT_TRUE(extract("id", "markup", {english}).empty());
  EXPECT_EQ(extract("en", "markup", {english + "<p>That is the end of it.</p>"}).size(), 1u);
}

TEST_F(ExtractText, RepeatedSegmentsAreKeptOnce) {
  const std::string page = "<p>Ang parehong talata ay nasa bawat pahina.</p>";
  EXPECT_EQ(extract("tl", "markup", {page, page}).size(), 1u);
}

TEST_F(ExtractText, GettextTranslationsLoseShortcutMarksAndPlaceholders) {
  const auto documents = extract(
      "th", "mo", {mo_file({"เปิดแฟ้มเอกสารที่เลือกไว้ในหน้าต่าง~ใหม่", "บันทึกแฟ้ม %1 ไว้ในโฟลเดอร์ที่เลือกไว้แล้ว", "ตกลง"})});
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_EQ(documents[0]["text"], "เปิดแฟ้มเอกสารที่เลือกไว้ในหน้าต่างใหม่");
}

TEST_F(ExtractText, ResourcePackGivesItsStrings) {
  const auto documents = extract(
      "sw", "pak",
      {pak_file({"Fungua ukurasa huu katika dirisha jipya", "Sawa", "Kurasa $1 za tovuti hii ziko wazi",
                 "<p>Hii ni sehemu ya maelezo ya ukurasa</p>"})});
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_EQ(documents[0]["text"],
            "Fungua ukurasa huu katika dirisha jipya\nHii ni sehemu ya maelezo ya ukurasa");
}

TEST_F(ExtractText, LongFilesBecomeSeveralDocuments) {
  std::string page;
  for (int i = 0; i < 200; ++i)
    page += "<p>Kalimat nomor " + std::to_string(i) + " ini untuk menguji panjang dokumen.</p>";
  const auto documents = extract("id", "markup", {page});
  // 200 segments of about 52 characters and a line end: 10,500 characters in documents below 4,000.
  ASSERT_EQ(documents.size(), 3u);
  for (const auto& document : documents) EXPECT_LE(document["text"].get<std::string>().size(), 4000u);
}

}  // namespace
}  // namespace terroir
