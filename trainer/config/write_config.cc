// to_yaml(): the schema's tree, walked over a Config.
#include <fmt/ranges.h>

#include <cctype>

#include "base/json.h"
#include "trainer/config/config_file.h"
#include "trainer/config/scalar.h"
#include "trainer/config/schema.h"
#include "trainer/config/yaml_text.h"

namespace terroir {
namespace {

struct ValueWriter {
  const ConfigKey& key;

  std::string operator()(const bool* value) const { return *value ? "true" : "false"; }
  std::string operator()(const int* value) const { return std::to_string(*value); }
  std::string operator()(const std::int64_t* value) const { return std::to_string(*value); }
  std::string operator()(const std::uint64_t* value) const { return std::to_string(*value); }
  std::string operator()(const double* value) const { return shortest(*value); }
  std::string operator()(const std::string* value) const {
    return key.nullable && value->empty() ? "null" : yaml_text(*value);
  }
  std::string operator()(const std::vector<std::int64_t>* values) const {
    return fmt::format("[{}]", fmt::join(*values, ", "));
  }
  std::string operator()(NumberPair pair) const {
    return fmt::format("[{}, {}]", shortest(*pair.first), shortest(*pair.second));
  }
  std::string operator()(IntegerOrFromTokenizer field) const {
    return *field.from_tokenizer ? std::string(kFromTokenizer) : std::to_string(*field.value);
  }
};

class ConfigWriter {
 public:
  explicit ConfigWriter(const Config& config) : config_(config) {}

  // The node's value, on the line of its key or, indented, on the lines below.
  std::string value(const SchemaNode& node, const Captures& at, int indent) {
    if (node.key != nullptr) return fmt::format(" {}\n", yaml_value(*node.key, config_, at));
    if (node.path == "model.rope_scaling" && config_.model.rope_scaling.rope_type == "default")
      return " null\n";
    std::string text = "\n";
    if (node.is_list()) {
      for (std::size_t i = 0; i < num_elements(config_, node); ++i)
        text += list_item(node.children[0], {.index = i}, indent);
    } else if (node.is_open_map()) {
      for (const std::string& name : element_names(config_, node, at))
        text += entry(yaml_text(name), node.children[0], {.index = at.index, .name = name}, indent);
    } else {
      text += section(node, at, indent);
    }
    return text;
  }
  // A section whose first key stands behind the dash.
  std::string list_item(const SchemaNode& node, const Captures& at, int indent) {
    std::string text = section(node, at, indent + 2);
    text[static_cast<std::size_t>(indent)] = '-';
    return text;
  }
  std::string section(const SchemaNode& node, const Captures& at, int indent) {
    std::string text;
    for (const SchemaNode& child : node.children) text += entry(child.name, child, at, indent);
    return text;
  }

 private:
  std::string entry(const std::string& name, const SchemaNode& node, const Captures& at, int indent) {
    return std::string(indent, ' ') + name + ":" + value(node, at, indent + 2);
  }

  Config config_;  // a copy: fields are found through mutable access
};

bool is_plain(std::string_view text) {
  if (text.empty() || std::isalnum(static_cast<unsigned char>(text[0])) == 0 || text[0] == '0') return false;
  bool has_letter = false;  // other than the e of an exponent
  for (const unsigned char c : text) {
    if (std::isalnum(c) == 0 && c != '_' && c != '-' && c != '.' && c != '/') return false;
    has_letter |= std::isalpha(c) != 0 && c != 'e' && c != 'E';
  }
  if (!has_letter) return false;
  // Words that YAML readers of any version take for booleans or null.
  static constexpr std::string_view kReserved[] = {"true", "false", "yes", "no",  "on",
                                                   "off",  "y",     "n",   "null"};
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (const std::string_view word : kReserved)
    if (lower == word) return false;
  return true;
}

}  // namespace

std::string yaml_text(std::string_view text) {
  return is_plain(text) ? std::string(text) : Json(text).dump();
}

std::string yaml_value(const ConfigKey& key, Config& config, const Captures& at) {
  return std::visit(ValueWriter{key}, key.field(config, at));
}

std::string to_yaml(const Config& config) {
  return ConfigWriter(config).section(config_schema_tree(), {}, 0);
}

}  // namespace terroir
