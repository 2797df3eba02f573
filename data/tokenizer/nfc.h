// Unicode normalization form C, which some tokenizers apply to a text before anything else.
#pragma once

#include <string>
#include <string_view>

namespace terroir {

// `text` with each run of well-formed UTF-8 in normalization form C; bytes that are not UTF-8 stay as they
// are. O(n log n), whatever the text.
std::string to_nfc(std::string_view text);

}  // namespace terroir
