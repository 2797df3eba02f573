// FNV-1a over the identity of operations, from which message tags are made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace terroir {

inline constexpr std::uint32_t kEmptyHash = 2166136261u;

inline std::uint32_t hash_byte(std::uint32_t hash, std::uint8_t byte) { return (hash ^ byte) * 16777619u; }

inline std::uint32_t hash_text(std::uint32_t hash, std::string_view text) {
  for (const char c : text) hash = hash_byte(hash, static_cast<std::uint8_t>(c));
  return hash;
}

inline std::uint32_t hash_number(std::uint32_t hash, std::uint32_t number) {
  for (int shift = 0; shift < 32; shift += 8)
    hash = hash_byte(hash, static_cast<std::uint8_t>(number >> shift));
  return hash;
}

}  // namespace terroir
