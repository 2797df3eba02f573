#include "data/tokenizer/added_token_matcher.h"

#include <algorithm>

namespace terroir {

void AddedTokenMatcher::add(std::string content, std::int32_t id) {
  std::vector<Token>& tokens = tokens_by_first_byte_[static_cast<unsigned char>(content[0])];
  const auto shorter = std::find_if(tokens.begin(), tokens.end(), [&](const Token& token) {
    return token.content.size() < content.size();
  });
  tokens.insert(shorter, Token{std::move(content), id});
  empty_ = false;
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::find(std::string_view text,
                                                                std::size_t from) const {
  if (empty_) return std::nullopt;
  for (std::size_t begin = from; begin < text.size(); ++begin)
    for (const Token& token : tokens_by_first_byte_[static_cast<unsigned char>(text[begin])])
      if (text.substr(begin).starts_with(token.content)) return Match{begin, token.content.size(), token.id};
  return std::nullopt;
}

}  // namespace terroir
