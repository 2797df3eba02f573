// A YAML document as a plain tree in which every node knows its place. A deliberately small part of YAML: no
// anchors, aliases, tags or merge keys (aliases let a few bytes stand for 10^30 nodes), no duplicate keys,
// one document.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace terroir {

struct YamlEntry;

struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  std::string scalar;              // kScalar: the text, escapes resolved
  bool quoted = false;             // kScalar: quoted or a block scalar, so never a number or a boolean
  std::vector<YamlNode> items;     // kList
  std::vector<YamlEntry> entries;  // kMap, in the order written
  Place place;                     // where the value begins; place.key is its path ("data.stages.0.sources")

  YamlNode* find(std::string_view key);
  const YamlNode* find(std::string_view key) const;
};

struct YamlEntry {
  std::string key;
  Place place;  // where the key begins
  YamlNode value;
};

// What a message calls a node: `"abc"`, `the quoted text "12"`, `a list`, `a section`, `nothing`.
std::string describe(const YamlNode& node);

// Where the text comes from: a file, or the value of an override ("command line", which has no lines).
struct YamlOrigin {
  std::string file;
  std::string key = {};  // path of the root node
  bool has_lines = true;
};

inline constexpr std::size_t kMaxYamlBytes = std::size_t{1} << 20;

// Parses one document; an empty text is a kNull node. Appends everything that is refused to `problems`; the
// rest is returned nevertheless, except after a syntax error, when there is no telling what was meant.
std::optional<YamlNode> parse_yaml(std::string_view text, const YamlOrigin& origin,
                                   std::vector<Problem>& problems);

}  // namespace terroir
