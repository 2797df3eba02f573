// Byte strings numbered in order of first appearance.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace terroir {

// An open-addressing hash table over strings kept end to end in one buffer. Numbers depend on the order of
// the calls alone, never on hash values. Holds at most 2^31 strings of less than 4 GiB each.
class StringTable {
 public:
  StringTable() { clear(); }

  std::uint32_t size() const { return static_cast<std::uint32_t>(entries_.size()); }
  // Valid until the next intern() or clear().
  std::string_view at(std::uint32_t index) const {
    return {bytes_.data() + entries_[index].offset, entries_[index].length};
  }

  // The string's number, if it is there.
  std::optional<std::uint32_t> find(std::string_view string) const {
    const Slot slot = slots_[slot_of(string, hash(string))];
    if (slot.index_plus_1 == 0) return std::nullopt;
    return slot.index_plus_1 - 1;
  }
  // The string's number; a new string gets number size(). `string` must not point into the table.
  std::uint32_t intern(std::string_view string);

  // Forgets all strings; keeps at most a small buffer.
  void clear();

 private:
  struct Entry {
    std::uint64_t offset;
    std::uint32_t length;
  };
  struct Slot {
    std::uint32_t hash = 0;          // high half
    std::uint32_t index_plus_1 = 0;  // 0: empty
  };

  static std::uint64_t hash(std::string_view string);
  // Where `string` is, or the empty slot where it would go.
  std::size_t slot_of(std::string_view string, std::uint64_t hash) const {
    const auto tag = static_cast<std::uint32_t>(hash >> 32);
    for (std::size_t i = hash & mask_;; i = (i + 1) & mask_) {
      const Slot slot = slots_[i];
      if (slot.index_plus_1 == 0 || (slot.hash == tag && at(slot.index_plus_1 - 1) == string)) return i;
    }
  }
  void grow();

  std::string bytes_;
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;
  std::size_t mask_ = 0;  // slots_.size() - 1; a power of two less one
};

}  // namespace terroir
