// Finds added tokens in a text.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace terroir {

class AddedTokenMatcher {
 public:
  struct Match {
    std::size_t begin, length;
    std::int32_t id;
  };

  // REQUIRES: content is not empty.
  void add(std::string content, std::int32_t id);
  // The first token in text at or after `from`; the longest of those that begin there.
  std::optional<Match> find(std::string_view text, std::size_t from) const;

 private:
  struct Token {
    std::string content;
    std::int32_t id;
  };
  std::array<std::vector<Token>, 256> tokens_by_first_byte_;  // longest first
  bool empty_ = true;
};

}  // namespace terroir
