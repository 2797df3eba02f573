#include "trainer/config/overrides.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace terroir {
namespace {

constexpr const char* kCommandLine = "command line";

// The node `word` names below `parent`, made if absent; null when `parent` is a list without that place.
YamlNode* child(YamlNode& parent, const std::string& word, const Place& place) {
  const bool is_number =
      !word.empty() && std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (parent.kind == YamlNode::Kind::kNull || parent.kind == YamlNode::Kind::kScalar) {
    const std::string key = parent.place.key;
    parent = YamlNode{};
    parent.kind = is_number ? YamlNode::Kind::kList : YamlNode::Kind::kMap;
    parent.place = Place{kCommandLine, 0, 0, key};
  }
  if (parent.kind == YamlNode::Kind::kMap) {
    if (YamlNode* found = parent.find(word)) return found;
    parent.entries.push_back({word, place, YamlNode{}});
    parent.entries.back().value.place = place;
    return &parent.entries.back().value;
  }
  std::size_t index = 0;
  const auto [end, status] = std::from_chars(word.data(), word.data() + word.size(), index);
  if (!is_number || status != std::errc() || index > parent.items.size()) return nullptr;
  if (index == parent.items.size()) {
    parent.items.emplace_back();
    parent.items.back().place = place;
  }
  return &parent.items[index];
}

void apply_override(YamlNode& root, const std::string& text, std::vector<Problem>& problems) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    problems.push_back(
        {Place{kCommandLine}, fmt::format("\"{}\" is no override: write key.path=value", text)});
    return;
  }
  const std::string path = text.substr(0, equals);
  const std::size_t num_problems = problems.size();
  std::optional<YamlNode> value =
      parse_yaml(std::string_view(text).substr(equals + 1),
                 YamlOrigin{.file = kCommandLine, .key = path, .has_lines = false}, problems);
  if (problems.size() > num_problems) return;

  YamlNode* node = &root;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    const Place place{kCommandLine, 0, 0, path.substr(0, end)};
    YamlNode* next = child(*node, path.substr(begin, end - begin), place);
    if (next == nullptr) {
      problems.push_back({place, fmt::format("no such place in a list of {}: give 0 to {}",
                                             node->items.size(), node->items.size())});
      return;
    }
    node = next;
    begin = end + 1;
  }
  *node = std::move(*value);
}

}  // namespace

void apply_overrides(YamlNode& root, std::span<const std::string> overrides, std::vector<Problem>& problems) {
  for (const std::string& text : overrides) apply_override(root, text, problems);
}

}  // namespace terroir
