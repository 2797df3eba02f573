// The one table that says what a configuration may hold: reading, checking, writing, the JSON Schema and
// docs/configuration.md all follow it. A new key is one field in config.h and one row in schema.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "trainer/config/config.h"

namespace terroir {

// Which element a path's placeholders stand for: "data.stages.N.sources.NAME" has both.
struct Captures {
  std::size_t index = 0;  // N
  std::string name = {};  // NAME
};

// Where a key's value lives in a Config; its alternative is the key's type.
struct NumberPair {
  double* first;
  double* second;
};
struct IntegerOrFromTokenizer {
  std::int64_t* value;
  bool* from_tokenizer;
};
inline constexpr std::string_view kFromTokenizer = "from_tokenizer";
using Field = std::variant<bool*, int*, std::int64_t*, std::uint64_t*, double*, std::string*,
                           std::vector<std::int64_t>*, NumberPair, IntegerOrFromTokenizer>;

// Of a number, or of every number of a list. Unused for texts and booleans.
struct ValueRange {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool above_min = false;  // min itself is outside
  bool below_max = false;
  bool contains(double value) const;
};
// "at least 1", "1 to 3", "above 0", "at least 0 and below 1"; empty for everything.
std::string to_string(const ValueRange& range);

struct ConfigKey {
  std::string_view path;  // NAME stands for any word, N for a place in a list
  Field (*field)(Config&, const Captures&);
  std::string_view meaning;  // one line; may use Markdown's `code`
  ValueRange range = {};
  std::vector<std::string_view> choices = {};  // of a text; empty: any
  std::vector<std::string_view> planned = {};  // texts of `choices`' kind that a later version will know
  ValueRange built = {};                       // numbers of `range` outside `built` are planned, not built
  bool required = false;
  bool nullable = false;  // a text that may be null: none
};

struct ConfigSection {
  std::string_view path;
  std::string_view meaning;
  bool required = false;
};

const std::vector<ConfigKey>& config_keys();
const std::vector<ConfigSection>& config_sections();

// The table as a tree: a section has children, a key has `key`. Children are in the table's order.
struct SchemaNode {
  std::string name;  // last word of the path: "steps", "NAME", "N"
  std::string path;
  const ConfigKey* key = nullptr;
  const ConfigSection* section = nullptr;
  std::vector<SchemaNode> children = {};

  bool is_list() const { return children.size() == 1 && children[0].name == "N"; }
  bool is_open_map() const { return children.size() == 1 && children[0].name == "NAME"; }
  const SchemaNode* find(std::string_view child) const;
};
const SchemaNode& config_schema_tree();

// The elements a Config has below an open map or a list, in order.
std::vector<std::string> element_names(const Config& config, const SchemaNode& open_map, const Captures& at);
std::size_t num_elements(const Config& config, const SchemaNode& list);

// "integer", "number", "true or false", "text", "list of integers", ...
std::string type_name(const Field& field);

}  // namespace terroir
