#include "data/tokenizer/string_table.h"

#include <cstring>
#include <random>

#include "base/error.h"

namespace terroir {
namespace {

constexpr std::size_t kInitialSlots = 1024;

std::uint64_t load(const char* p, std::size_t length) {
  std::uint64_t value = 0;
  std::memcpy(&value, p, length);
  return value;
}

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// Another one in every process, so that no text can be written to make strings collide.
std::uint64_t random_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

}  // namespace

std::uint64_t StringTable::hash(std::string_view string) {
  static const std::uint64_t seed = random_seed();
  constexpr std::uint64_t kOdd1 = 0x9E3779B97F4A7C15, kOdd2 = 0xD6E8FEB86659FD93;
  const char* p = string.data();
  std::size_t left = string.size();
  std::uint64_t state = seed ^ (left * kOdd1);
  for (; left > 8; left -= 8, p += 8) state = mix(state ^ load(p, 8), kOdd1);
  return mix(state ^ load(p, left), kOdd2);
}

std::uint32_t StringTable::intern(std::string_view string) {
  const std::uint64_t hash_of_string = hash(string);
  std::size_t slot = slot_of(string, hash_of_string);
  if (slots_[slot].index_plus_1 != 0) return slots_[slot].index_plus_1 - 1;
  TERROIR_CHECK(size() < INT32_MAX && string.size() <= UINT32_MAX, "string table is full");
  if ((entries_.size() + 1) * 2 > slots_.size()) {
    grow();
    slot = slot_of(string, hash_of_string);
  }
  entries_.push_back({bytes_.size(), static_cast<std::uint32_t>(string.size())});
  bytes_.append(string);
  slots_[slot] = {static_cast<std::uint32_t>(hash_of_string >> 32), size()};
  return size() - 1;
}

void StringTable::grow() {
  slots_.assign(slots_.size() * 2, Slot{});
  mask_ = slots_.size() - 1;
  for (std::uint32_t index = 0; index < size(); ++index) {
    const std::uint64_t hash_of_string = hash(at(index));
    std::size_t i = hash_of_string & mask_;
    while (slots_[i].index_plus_1 != 0) i = (i + 1) & mask_;
    slots_[i] = {static_cast<std::uint32_t>(hash_of_string >> 32), index + 1};
  }
}

void StringTable::clear() {
  bytes_.clear();
  entries_.clear();
  slots_.assign(kInitialSlots, Slot{});
  mask_ = kInitialSlots - 1;
}

}  // namespace terroir
