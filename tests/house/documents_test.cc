// What a reader stumbles over: links that lead nowhere, names that say nothing, work left lying about.
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>

#include "tests/house/source_tree.h"

namespace terroir::house {
namespace {

std::vector<std::string> relative_links(const std::string& markdown) {
  static const std::regex pattern(R"(\]\(([^)#\s]+)[^)]*\))");
  std::vector<std::string> links;
  for (std::sregex_iterator it(markdown.begin(), markdown.end(), pattern), end; it != end; ++it) {
    const std::string target = (*it)[1];
    if (target.find("://") == std::string::npos && !target.starts_with("mailto:")) links.push_back(target);
  }
  return links;
}

TEST(Documents, LinksAreRead) {
  const std::string text =
      "[a](b.md#part), ![p](x/y.svg \"title\"), [web](https://example.org), [here](#there)";
  EXPECT_EQ(relative_links(text), (std::vector<std::string>{"b.md", "x/y.svg"}));
}

TEST(Documents, RelativeLinksResolve) {
  for (const auto& path : files_below("", {".md"})) {
    for (const auto& link : relative_links(read_source(path))) {
      const auto target = (std::filesystem::path(path).parent_path() / link).lexically_normal();
      EXPECT_TRUE(source_exists(target.string())) << path << ": the link to " << link << " leads nowhere";
    }
  }
}

TEST(Documents, NoFileNameSaysNothing) {
  const std::regex empty_words("(^|[_/])(manager|utils?|helpers?|common|misc)([_./]|$)");
  for (const auto& path : files_below("", {".h", ".cc", ".cu", ".cuh", ".sh", ".py"})) {
    EXPECT_FALSE(std::regex_search(path, empty_words)) << path << ": name the file after what it does";
  }
}

TEST(Documents, NoWorkIsLeftLyingAbout) {
  const std::regex marks(
      "\\b(TO"
      "DO|FIX"
      "ME|X"
      "XX)\\b");
  for (const auto& path :
       files_below("", {".h", ".cc", ".cu", ".cuh", ".sh", ".py", ".md", ".cmake", ".yaml"})) {
    EXPECT_FALSE(std::regex_search(read_source(path), marks)) << path << ": finish it or write an issue";
  }
}

}  // namespace
}  // namespace terroir::house
