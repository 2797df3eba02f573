#include "trainer/config/schema.h"

#include <algorithm>

#include "base/error.h"
#include "trainer/config/scalar.h"

namespace terroir {
namespace {

SchemaNode make_tree() {
  SchemaNode root;
  for (const ConfigKey& key : config_keys()) {
    SchemaNode* node = &root;
    std::string_view rest = key.path;
    while (!rest.empty()) {
      const std::size_t dot = std::min(rest.find('.'), rest.size());
      const std::string name(rest.substr(0, dot));
      rest.remove_prefix(std::min(dot + 1, rest.size()));
      if (node->find(name) == nullptr) {
        const std::string path = node->path.empty() ? name : node->path + "." + name;
        node->children.push_back({.name = name, .path = path});
      }
      node = const_cast<SchemaNode*>(node->find(name));
      for (const ConfigSection& section : config_sections())
        if (section.path == node->path) node->section = &section;
    }
    node->key = &key;
  }
  return root;
}

}  // namespace

bool ValueRange::contains(double value) const {
  return (above_min ? value > min : value >= min) && (below_max ? value < max : value <= max);
}

std::string to_string(const ValueRange& range) {
  const bool has_min = range.min != -std::numeric_limits<double>::infinity();
  const bool has_max = range.max != std::numeric_limits<double>::infinity();
  if (has_min && has_max && range.min == range.max) return shortest(range.min);
  if (has_min && has_max && !range.above_min && !range.below_max)
    return fmt::format("{} to {}", shortest(range.min), shortest(range.max));
  std::string text;
  if (has_min) text = (range.above_min ? "above " : "at least ") + shortest(range.min);
  if (has_max)
    text +=
        (has_min ? " and " : "") + std::string(range.below_max ? "below " : "at most ") + shortest(range.max);
  return text;
}

const SchemaNode* SchemaNode::find(std::string_view child) const {
  for (const SchemaNode& node : children)
    if (node.name == child) return &node;
  return nullptr;
}

const SchemaNode& config_schema_tree() {
  static const SchemaNode tree = make_tree();
  return tree;
}

std::vector<std::string> element_names(const Config& config, const SchemaNode& open_map, const Captures& at) {
  std::vector<std::string> names;
  if (open_map.path == "data.sources") {
    for (const auto& [name, source] : config.data.sources) names.push_back(name);
  } else {
    TERROIR_CHECK(open_map.path == "data.stages.N.sources", "{} is no open map", open_map.path);
    for (const auto& [name, weight] : config.data.stages.at(at.index).sources) names.push_back(name);
  }
  return names;
}

std::size_t num_elements(const Config& config, const SchemaNode& list) {
  TERROIR_CHECK(list.path == "data.stages", "{} is no list of sections", list.path);
  return config.data.stages.size();
}

std::string type_name(const Field& field) {
  static constexpr std::string_view kNames[] = {
      "true or false",    "integer",     "integer",
      "integer",          "number",      "text",
      "list of integers", "two numbers", "integer or `from_tokenizer`"};
  return std::string(kNames[field.index()]);
}

}  // namespace terroir
