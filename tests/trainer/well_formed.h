// Whether markup is well-formed XML as far as a report needs: tags nest and close, attributes are quoted,
// references are known.
#pragma once

#include <regex>
#include <string>
#include <vector>

namespace terroir {

// The first fault, or "". A document type declaration and the text inside <style> are skipped.
inline std::string markup_fault(std::string text) {
  static const std::regex style("<style>[^<]*</style>"), doctype("<!DOCTYPE html>");
  text = std::regex_replace(std::regex_replace(text, style, ""), doctype, "");
  static const std::regex tag(R"rx(<(/?)([a-z][a-z0-9]*)((?: [a-zA-Z][-a-zA-Z0-9]*="[^"<]*")*)(/?)>)rx");
  static const std::regex reference("&(amp|lt|gt|quot|#[0-9]+);");
  std::vector<std::string> open;
  std::size_t at = 0;
  for (std::sregex_iterator it(text.begin(), text.end(), tag), end; it != end; ++it) {
    const std::string between = text.substr(at, static_cast<std::size_t>(it->position()) - at);
    if (between.find_first_of("<>") != std::string::npos) return "stray < or > in: " + between;
    if (std::regex_replace(between, reference, "").find('&') != std::string::npos)
      return "bare & in: " + between;
    at = static_cast<std::size_t>(it->position() + it->length());
    if ((*it)[1] == "/") {
      if (open.empty() || open.back() != (*it)[2]) return "unexpected " + it->str();
      open.pop_back();
    } else if ((*it)[4] != "/") {
      open.push_back((*it)[2]);
    }
  }
  return open.empty() ? "" : "never closed: " + open.back();
}

}  // namespace terroir
