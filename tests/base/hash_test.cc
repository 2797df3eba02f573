#include "base/hash.h"

#include <gtest/gtest.h>

#include <vector>

namespace terroir {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// From the reference implementation's command line: printf '' | xxh128sum, printf abc | xxh128sum.
TEST(Xxh3, EqualsThePublishedValues) {
  EXPECT_EQ(xxh3_128(bytes_of("")).hex(), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(xxh3_128(bytes_of("abc")).hex(), "06b05ab6733a618578af5f94892f3950");
}

TEST(Xxh3, OfAStreamIsThatOfTheWhole) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += static_cast<char>(i * 7 + i / 256);
  for (const std::size_t piece : {1U, 63U, 64U, 1000U}) {
    Xxh3 stream;
    for (std::size_t at = 0; at < text.size(); at += piece) stream.update(bytes_of(text.substr(at, piece)));
    EXPECT_EQ(stream.digest(), xxh3_128(bytes_of(text)));
    EXPECT_EQ(stream.digest(), xxh3_128(bytes_of(text))) << "a digest does not end the stream";
  }
}

TEST(Hash128, HexKeepsLeadingZeros) {
  EXPECT_EQ((Hash128{0x1, 0xAB}.hex()), "000000000000000100000000000000ab");
}

// FIPS 180-4, and its examples.
TEST(Sha256, EqualsThePublishedValues) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(Sha256, OfAStreamIsThatOfTheWhole) {
  const std::string text(100000, 'x');
  Sha256 stream;
  stream.update(bytes_of(text.substr(0, 12345)));
  stream.update(bytes_of(text.substr(12345)));
  EXPECT_EQ(stream.hex(), sha256_hex(text));
}

}  // namespace
}  // namespace terroir
