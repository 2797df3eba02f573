// Hashes. XXH3-128 finds accidental damage at memory speed; SHA-256 identifies files where identity is
// claimed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace terroir {

struct Hash128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  bool operator==(const Hash128&) const = default;
  std::string hex() const;  // 32 lower-case digits, high word first (the canonical XXH3-128 form)
};

Hash128 xxh3_128(std::span<const std::byte> bytes);

// XXH3-128 of a byte stream.
class Xxh3 {
 public:
  Xxh3();
  ~Xxh3();
  Xxh3(const Xxh3&) = delete;
  Xxh3& operator=(const Xxh3&) = delete;
  void update(std::span<const std::byte> bytes);
  Hash128 digest() const;

 private:
  void* state_;
};

// SHA-256 of a byte stream, 64 lower-case hexadecimal digits.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void update(std::span<const std::byte> bytes);
  // REQUIRES: called once.
  std::string hex();

 private:
  void* context_;
};
std::string sha256_hex(std::string_view bytes);

}  // namespace terroir
