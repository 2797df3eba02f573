#include "data/tokenizer/byte_alphabet.h"

#include "data/tokenizer/utf8.h"

namespace terroir {
namespace {

constexpr std::uint32_t kFirstStandIn = 0x100;

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<std::uint32_t, 256> make_code_points() {
  std::array<std::uint32_t, 256> code_points{};
  std::uint32_t next = kFirstStandIn;
  for (unsigned byte = 0; byte < 256; ++byte) code_points[byte] = stands_for_itself(byte) ? byte : next++;
  return code_points;
}
constexpr auto kCodePoints = make_code_points();

constexpr std::array<int, 512> make_bytes() {
  std::array<int, 512> bytes{};
  for (int& byte : bytes) byte = -1;
  for (int byte = 0; byte < 256; ++byte) bytes[kCodePoints[static_cast<std::size_t>(byte)]] = byte;
  return bytes;
}
constexpr auto kBytes = make_bytes();

}  // namespace

const std::array<std::uint32_t, 256>& byte_code_points() { return kCodePoints; }

std::string bytes_to_printable(std::string_view bytes) {
  std::string printable;
  for (const char c : bytes) append_utf8(kCodePoints[static_cast<unsigned char>(c)], printable);
  return printable;
}

std::optional<std::string> printable_to_bytes(std::string_view printable) {
  std::string bytes;
  const char* const end = printable.data() + printable.size();
  for (const char* p = printable.data(); p < end;) {
    const Utf8Char c = decode_utf8(p, end);
    if (c.code_point >= kBytes.size() || kBytes[c.code_point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kBytes[c.code_point]));
    p += c.length;
  }
  return bytes;
}

}  // namespace terroir
