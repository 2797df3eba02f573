#include "data/tokenizer/utf8.h"

#include <algorithm>
#include <array>

namespace terroir {
namespace {

// Whether some continuation bytes make `prefix` a well-formed character: the lowest and highest ones are
// enough to try, since what is allowed after each lead byte is an interval.
bool begins_a_character(std::string_view prefix) {
  const auto lead = static_cast<unsigned char>(prefix[0]);
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 1;
  if (prefix.size() >= length) return false;
  for (const char filler : {'\x80', '\xBF'}) {
    std::string candidate(prefix);
    candidate.resize(length, filler);
    if (decode_utf8(candidate.data(), candidate.data() + length).length == length) return true;
  }
  return false;
}

}  // namespace

void append_utf8(std::uint32_t code_point, std::string& text) {
  const auto put = [&text](std::uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) return put(code_point);
  if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
  } else {
    if (code_point < 0x10000) {
      put(0xE0 | code_point >> 12);
    } else {
      put(0xF0 | code_point >> 18);
      put(0x80 | (code_point >> 12 & 0x3F));
    }
    put(0x80 | (code_point >> 6 & 0x3F));
  }
  put(0x80 | (code_point & 0x3F));
}

std::size_t incomplete_utf8_suffix(std::string_view text) {
  for (std::size_t length = 1; length <= std::min<std::size_t>(3, text.size()); ++length) {
    const std::string_view suffix = text.substr(text.size() - length);
    const auto lead = static_cast<unsigned char>(suffix[0]);
    if ((lead & 0xC0) != 0x80) return lead >= 0x80 && begins_a_character(suffix) ? length : 0;
  }
  return 0;
}

}  // namespace terroir
