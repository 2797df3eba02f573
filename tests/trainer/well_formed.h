// Whether markup is well-formed XML as far as a report needs: tags nest and close, attributes are quoted,
// references are known.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace terroir {

// The first fault of text between tags or of an attribute's value, or "".
inline std::string text_fault(std::string_view text) {
  if (text.find('>') != std::string_view::npos) return "stray > in: " + std::string(text);
  for (std::size_t at = text.find('&'); at != std::string_view::npos; at = text.find('&', at + 1)) {
    const std::string_view rest = text.substr(at);
    const std::string_view known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#160;"};
    if (std::none_of(std::begin(known), std::end(known), [&](auto word) { return rest.starts_with(word); }))
      return "unknown reference in: " + std::string(text);
  }
  return {};
}

// `attributes`: what stands between a tag's name and its end, such as ` class="a" x="1"`.
inline std::string attribute_fault(std::string_view attributes) {
  while (!attributes.empty()) {
    const std::size_t equals = attributes.find("=\"");
    if (attributes[0] != ' ' || equals == std::string_view::npos)
      return "no attribute: " + std::string(attributes);
    const std::size_t end = attributes.find('"', equals + 2);
    if (end == std::string_view::npos) return "open quote: " + std::string(attributes);
    if (std::string fault = text_fault(attributes.substr(equals + 2, end - equals - 2)); !fault.empty())
      return fault;
    attributes.remove_prefix(end + 1);
  }
  return {};
}

// The first fault, or "". A document type declaration and the text inside <style> are skipped.
inline std::string markup_fault(std::string_view text) {
  constexpr std::string_view kDoctype = "<!DOCTYPE html>";
  if (text.starts_with(kDoctype)) text.remove_prefix(kDoctype.size());
  std::vector<std::string_view> open;
  while (!text.empty()) {
    const std::size_t begin = std::min(text.find('<'), text.size());
    const bool in_style = !open.empty() && open.back() == "style";
    if (std::string fault = text_fault(text.substr(0, begin)); !fault.empty() && !in_style) return fault;
    text.remove_prefix(begin);
    if (text.empty()) break;
    const std::size_t end = text.find('>');
    if (end == std::string_view::npos || text.substr(1, end - 1).find('<') != std::string_view::npos)
      return "open tag: " + std::string(text.substr(0, 40));
    std::string_view tag = text.substr(1, end - 1);
    text.remove_prefix(end + 1);
    if (tag.starts_with('/')) {
      if (open.empty() || open.back() != tag.substr(1)) return "unexpected <" + std::string(tag) + ">";
      open.pop_back();
      continue;
    }
    const bool closed = tag.ends_with('/');
    if (closed) tag.remove_suffix(1);
    const std::size_t name = std::min(tag.find(' '), tag.size());
    if (std::string fault = attribute_fault(tag.substr(name)); !fault.empty()) return fault;
    if (!closed) open.push_back(tag.substr(0, name));
  }
  return open.empty() ? "" : "never closed: " + std::string(open.back());
}

}  // namespace terroir
