#include "data/mixture/permutation.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/error.h"

namespace terroir {
namespace {
constexpr int kRounds = 8;
}

Permutation::Permutation(std::uint64_t size, PhiloxKey key, std::uint64_t tweak)
    : size_(size), key_(key), tweak_(tweak) {
  TERROIR_CHECK(size >= 1 && size <= std::uint64_t{1} << 62, "permutation of {} elements", size);
  const int bits = static_cast<int>(std::bit_width(size - 1));
  half_bits_ = std::max(1, (bits + 1) / 2);
  half_mask_ = (std::uint64_t{1} << half_bits_) - 1;
}

std::uint64_t Permutation::round_function(std::uint32_t half, int round) const {
  const PhiloxCounter out =
      philox4x32({half, static_cast<std::uint32_t>(round), static_cast<std::uint32_t>(tweak_),
                  static_cast<std::uint32_t>(tweak_ >> 32)},
                 key_);
  return out[0] & half_mask_;
}

std::uint64_t Permutation::at(std::uint64_t index) const {
  TERROIR_CHECK(index < size_, "index {} of a permutation of {}", index, size_);
  std::uint64_t value = index;
  do {
    std::uint64_t left = value >> half_bits_, right = value & half_mask_;
    for (int round = 0; round < kRounds; ++round)
      left = std::exchange(right, left ^ round_function(static_cast<std::uint32_t>(right), round));
    value = (left << half_bits_) | right;
  } while (value >= size_);
  return value;
}

std::uint64_t Permutation::inverse(std::uint64_t value) const {
  TERROIR_CHECK(value < size_, "value {} of a permutation of {}", value, size_);
  std::uint64_t index = value;
  do {
    std::uint64_t left = index >> half_bits_, right = index & half_mask_;
    for (int round = kRounds - 1; round >= 0; --round)
      right = std::exchange(left, right ^ round_function(static_cast<std::uint32_t>(left), round));
    index = (left << half_bits_) | right;
  } while (index >= size_);
  return index;
}

}  // namespace terroir
