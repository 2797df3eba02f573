#include "trainer/config/read_config.h"

#include <algorithm>
#include <cctype>

#include "trainer/config/read_value.h"
#include "trainer/config/schema.h"
#include "trainer/config/suggest.h"

namespace terroir {
namespace {

// A name chosen by the user: it becomes a folder, a metric's key or a word of an override's path.
std::string check_name(std::string_view name) {
  const auto allowed = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' ||
           c >= 0x80;  // 0x80 and above: letters of any language
  };
  if (name.empty() || !std::all_of(name.begin(), name.end(), allowed))
    return "a source's name has letters, digits, - and _ only";
  return {};
}

// The path of a key elsewhere in the schema whose last word is `word`; empty unless there is exactly one.
std::string key_named(std::string_view word) {
  std::string found;
  for (const ConfigKey& key : config_keys()) {
    const std::size_t dot = key.path.rfind('.');
    if (dot == std::string_view::npos || key.path.substr(dot + 1) != word) continue;
    if (!found.empty() || key.path.find("NAME") != std::string_view::npos) return {};
    found = key.path;
  }
  return found;
}

std::string unknown_key_message(const SchemaNode& schema, const std::string& word) {
  if (schema.path == "parallel" && word == "data")
    return "unknown key: data parallelism is what tensor x pipeline x context leave of the ranks";
  std::vector<std::string> names;
  for (const SchemaNode& child : schema.children) names.push_back(child.name);
  const std::string nearest = nearest_word(word, names);
  if (!nearest.empty()) return fmt::format("unknown key: did you mean {}?", nearest);
  const std::string elsewhere = key_named(word);
  if (!elsewhere.empty()) return fmt::format("unknown key: did you mean {}?", elsewhere);
  if (schema.children.size() > 20) return "unknown key: `terroir config schema` lists the keys";
  std::string known;
  for (const std::string& name : names) known += (known.empty() ? "" : ", ") + name;
  return fmt::format("unknown key: {} {}", schema.path.empty() ? "the file has" : "this section has", known);
}

class ConfigReader {
 public:
  explicit ConfigReader(std::vector<Problem>& problems) : problems_(problems) {
    for (const Problem& problem : problems) result_.refused.insert(problem.place.key);
  }
  ReadConfig take() { return std::move(result_); }

  void read(const SchemaNode& schema, const YamlNode& node, const Captures& at) {
    result_.places[node.place.key] = node.place;
    if (schema.key != nullptr) {
      const std::string error = read_value(*schema.key, node, schema.key->field(result_.config, at));
      if (!error.empty()) refuse(node.place, error);
    } else if (schema.is_list()) {
      read_list(schema, node);
    } else {
      read_section(schema, node, at);
    }
  }

 private:
  void refuse(const Place& place, const std::string& message) {
    if (result_.refused.insert(place.key).second) problems_.push_back({place, message});
  }

  // Nearest place that is known for a key that was not given: its section's.
  Place place_of_missing(const YamlNode& section, const std::string& name) const {
    Place place = section.place;
    if (place.key.empty()) place.line = place.column = 0;  // the first line of the file would mean nothing
    place.key += (place.key.empty() ? "" : ".") + name;
    return place;
  }

  void read_list(const SchemaNode& schema, const YamlNode& node) {
    if (node.kind != YamlNode::Kind::kList)
      return refuse(node.place, "expected a list, got " + describe(node));
    if (node.items.empty()) return refuse(node.place, "the list is empty: give one item");
    for (std::size_t i = 0; i < node.items.size(); ++i) read(schema.children[0], node.items[i], {.index = i});
  }

  void read_section(const SchemaNode& schema, const YamlNode& node, const Captures& at) {
    if (node.kind != YamlNode::Kind::kMap && node.kind != YamlNode::Kind::kNull)
      return refuse(node.place, "expected a section of keys, got " + describe(node));
    for (const YamlEntry& entry : node.entries) {
      if (schema.is_open_map()) {
        read_element(schema, entry, at);
      } else if (const SchemaNode* child = schema.find(entry.key)) {
        read(*child, entry.value, at);
      } else {
        refuse(entry.place, unknown_key_message(schema, entry.key));
      }
    }
    if (schema.is_open_map() && node.entries.empty())
      refuse(node.place, "the section is empty: name a source");
    require_children(schema, node);
  }

  void read_element(const SchemaNode& schema, const YamlEntry& entry, const Captures& at) {
    if (const std::string error = check_name(entry.key); !error.empty()) return refuse(entry.place, error);
    read(schema.children[0], entry.value, {.index = at.index, .name = entry.key});
  }

  void require_children(const SchemaNode& schema, const YamlNode& node) {
    for (const SchemaNode& child : schema.children) {
      const bool required =
          child.key != nullptr ? child.key->required : child.section != nullptr && child.section->required;
      const bool given = node.find(child.name) != nullptr;
      if (required && !given) {
        const std::string_view meaning = child.key != nullptr ? child.key->meaning : child.section->meaning;
        refuse(place_of_missing(node, child.name),
               fmt::format("missing, and it has no default: add it ({})", meaning));
      }
      // A section that is left out altogether may have required keys.
      if (child.key == nullptr && !required && !given && !schema.is_list() && !schema.is_open_map()) {
        YamlNode absent;
        absent.place = place_of_missing(node, child.name);
        require_children(child, absent);
      }
    }
  }

  std::vector<Problem>& problems_;
  ReadConfig result_;
};

}  // namespace

ReadConfig read_config(const YamlNode& root, std::vector<Problem>& problems) {
  ConfigReader reader(problems);
  reader.read(config_schema_tree(), root, {});
  return reader.take();
}

}  // namespace terroir
