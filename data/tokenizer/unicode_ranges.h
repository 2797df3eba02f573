// The code points of general categories L (letters) and N (numbers), from a fixed version of Unicode: the ids
// of a text must not depend on which Unicode library a machine has installed. Version 16.0 is what the
// regular expressions of Hugging Face tokenizers 0.23 use.
#pragma once

#include <cstddef>
#include <cstdint>

namespace terroir {

struct CodePointRange {
  std::uint32_t first, last;  // both inside
};

// Sorted, disjoint.
extern const CodePointRange kLetterRanges[];
extern const std::size_t kNumLetterRanges;
extern const CodePointRange kNumberRanges[];
extern const std::size_t kNumNumberRanges;

}  // namespace terroir
