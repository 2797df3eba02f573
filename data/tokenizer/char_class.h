// The classes of characters the pre-tokenizers' regular expressions tell apart.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "data/tokenizer/utf8.h"

namespace terroir {

enum class CharClass : std::uint8_t {
  kOther,    // [^\s\p{L}\p{N}]; also a byte that is not UTF-8
  kLetter,   // \p{L}
  kNumber,   // \p{N}
  kSpace,    // \s other than:
  kNewline,  // [\r\n]
  kEnd,      // no character: the end of the text
};

// Code point -> class in two steps of a few kilobytes each: most blocks of 256 code points look alike.
class CharClassTable {
 public:
  // Built once, at first use.
  static const CharClassTable& get();

  CharClass of(std::uint32_t code_point) const {
    return blocks_[block_of_[code_point >> 8]][code_point & 0xFF];
  }
  CharClass of_ascii(unsigned char c) const { return ascii_[c]; }

 private:
  using Block = std::array<CharClass, 256>;
  CharClassTable();
  std::array<CharClass, 128> ascii_;
  std::array<std::uint16_t, 0x1100> block_of_;
  std::vector<Block> blocks_;
};

struct ClassifiedChar {
  CharClass char_class;
  std::uint32_t length;  // bytes; 0 at the end
};

inline ClassifiedChar classify(const CharClassTable& table, const char* p, const char* end) {
  if (p == end) return {CharClass::kEnd, 0};
  const auto lead = static_cast<unsigned char>(*p);
  if (lead < 0x80) return {table.of_ascii(lead), 1};
  const Utf8Char c = decode_utf8(p, end);
  if (c.code_point == kInvalidCodePoint) return {CharClass::kOther, 1};
  return {table.of(c.code_point), c.length};
}

}  // namespace terroir
