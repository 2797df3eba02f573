// Markup. The page is well-formed XML too, so that a test can check every tag.
#pragma once

#include <string>
#include <string_view>

namespace terroir {

// Text for an element or a quoted attribute: & < > " are replaced; control characters, which XML forbids, and
// invalid UTF-8 become U+FFFD.
std::string escape_html(std::string_view text);

}  // namespace terroir
