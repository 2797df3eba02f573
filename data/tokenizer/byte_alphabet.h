// How byte-level tokenizers write bytes in JSON: each of the 256 bytes as one printable character (GPT-2's
// `bytes_to_unicode`). Printable bytes of Latin-1 stand for themselves, the others for U+0100, U+0101, ... in
// order.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace terroir {

// The code point that stands for each byte.
const std::array<std::uint32_t, 256>& byte_code_points();

// Bytes -> printable characters in UTF-8, and back. Back from text with any other character: nothing.
std::string bytes_to_printable(std::string_view bytes);
std::optional<std::string> printable_to_bytes(std::string_view printable);

}  // namespace terroir
