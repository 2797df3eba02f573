// UTF-8, one character at a time, for text that may be anything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace terroir {

inline constexpr std::uint32_t kInvalidCodePoint = 0xFFFFFFFF;

struct Utf8Char {
  std::uint32_t code_point;  // kInvalidCodePoint: this one byte begins no well-formed character
  std::uint32_t length;      // bytes
};

// The character at p. Surrogates, overlong forms and values above U+10FFFF are not well-formed (Unicode 16,
// table 3-7). REQUIRES: p < end.
inline Utf8Char decode_utf8(const char* p, const char* end) {
  const auto byte = [p](int i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(p[i])); };
  const auto continues = [p, end](int i) {
    return i < end - p && (static_cast<unsigned char>(p[i]) & 0xC0) == 0x80;
  };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead >= 0xC2 && lead < 0xE0 && continues(1)) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead >= 0xE0 && lead < 0xF0 && continues(1) && continues(2)) {
    const std::uint32_t value = (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    if (value >= 0x800 && (value < 0xD800 || value > 0xDFFF)) return {value, 3};
  }
  if (lead >= 0xF0 && lead < 0xF5 && continues(1) && continues(2) && continues(3)) {
    const std::uint32_t value =
        (lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
    if (value >= 0x10000 && value <= 0x10FFFF) return {value, 4};
  }
  return {kInvalidCodePoint, 1};
}

// Appends a code point. REQUIRES: a Unicode scalar value.
void append_utf8(std::uint32_t code_point, std::string& text);

// How many bytes at the end of `text` may be the beginning of a character whose other bytes are still to
// come: 0 to 3.
std::size_t incomplete_utf8_suffix(std::string_view text);

}  // namespace terroir
