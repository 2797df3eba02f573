// "Did you mean ...?" for a misspelt word.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace terroir {

// The candidate nearest to `word` in edits (insert, delete, replace, swap neighbours), the first of equals.
// When none is within a third of the word's length (at least 2): the first that contains the word or lies in
// it. Else empty.
std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace terroir
