#include "data/tokenizer/char_class.h"

#include <algorithm>
#include <span>

#include "data/tokenizer/unicode_ranges.h"

namespace terroir {
namespace {

constexpr std::uint32_t kNumCodePoints = 0x110000;
constexpr CodePointRange kSpaceRanges[] = {
    // the White_Space property
    {0x0009, 0x000D}, {0x0020, 0x0020}, {0x0085, 0x0085}, {0x00A0, 0x00A0}, {0x1680, 0x1680},
    {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000},
};

void mark(std::vector<CharClass>& classes, std::span<const CodePointRange> ranges, CharClass char_class) {
  for (const CodePointRange range : ranges)
    std::fill(classes.begin() + range.first, classes.begin() + range.last + 1, char_class);
}

}  // namespace

const CharClassTable& CharClassTable::get() {
  static const CharClassTable table;
  return table;
}

CharClassTable::CharClassTable() {
  std::vector<CharClass> classes(kNumCodePoints, CharClass::kOther);
  mark(classes, {kLetterRanges, kNumLetterRanges}, CharClass::kLetter);
  mark(classes, {kNumberRanges, kNumNumberRanges}, CharClass::kNumber);
  mark(classes, kSpaceRanges, CharClass::kSpace);
  classes['\r'] = classes['\n'] = CharClass::kNewline;

  std::copy_n(classes.begin(), ascii_.size(), ascii_.begin());
  for (std::size_t i = 0; i < block_of_.size(); ++i) {
    Block block;
    std::copy_n(classes.begin() + static_cast<std::ptrdiff_t>(i * block.size()), block.size(), block.begin());
    const auto found = std::find(blocks_.begin(), blocks_.end(), block);
    block_of_[i] = static_cast<std::uint16_t>(found - blocks_.begin());
    if (found == blocks_.end()) blocks_.push_back(block);
  }
}

}  // namespace terroir
