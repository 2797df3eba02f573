#include "trainer/config/suggest.h"

#include <algorithm>

namespace terroir {
namespace {

// Optimal string alignment distance; O(|a| |b|), both are short.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      d[i][j] =
          std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates) {
  constexpr std::size_t kMaxWord = 64;  // longer is no misspelling of a key
  if (word.size() > kMaxWord) return {};
  std::size_t best = std::max<std::size_t>(2, word.size() / 3) + 1;
  std::string nearest;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    // Two edits of a two-letter word are another word.
    if (distance < best && distance < std::max(word.size(), candidate.size())) {
      best = distance;
      nearest = candidate;
    }
  }
  constexpr std::size_t kMinPart = 4;  // shorter parts are in too many words
  for (const std::string& candidate : candidates) {
    if (!nearest.empty() || std::min(word.size(), candidate.size()) < kMinPart) continue;
    if (candidate.find(word) != std::string::npos || word.find(candidate) != std::string_view::npos)
      nearest = candidate;
  }
  return nearest;
}

}  // namespace terroir
