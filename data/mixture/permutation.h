// A keyed permutation that needs no memory: where number `index` of 0..size-1 goes is computed, both ways.
#pragma once

#include <cstdint>

#include "base/philox.h"

namespace terroir {

// A Feistel network of 8 rounds over the smallest even number of bits that holds `size`, round function
// Philox4x32-10; values outside [0, size) are sent through again until they fall inside (cycle walking; under
// four passes on average). Bijective for every size, key and tweak. [format]: the order of stored tokens
// depends on every constant.
class Permutation {
 public:
  // `tweak` chooses one of many permutations of the same key (here: the epoch). REQUIRES: size in [1, 2^62].
  Permutation(std::uint64_t size, PhiloxKey key, std::uint64_t tweak);

  std::uint64_t size() const { return size_; }
  // REQUIRES: index < size.
  std::uint64_t at(std::uint64_t index) const;
  // inverse(at(i)) == i. REQUIRES: value < size.
  std::uint64_t inverse(std::uint64_t value) const;

 private:
  std::uint64_t round_function(std::uint32_t half, int round) const;

  std::uint64_t size_;
  PhiloxKey key_;
  std::uint64_t tweak_;
  int half_bits_;
  std::uint64_t half_mask_;
};

}  // namespace terroir
