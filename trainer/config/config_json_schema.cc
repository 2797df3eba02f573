#include <cmath>

#include "trainer/config/config_document.h"
#include "trainer/config/schema.h"

namespace terroir {
namespace {

// 1, not 1.0: bounds of integers are mostly integral.
OrderedJson json_number(double value) {
  const auto integer = static_cast<std::int64_t>(value);
  if (static_cast<double>(integer) == value) return integer;
  return value;
}

void add_range(const ValueRange& range, OrderedJson& schema) {
  if (std::isfinite(range.min))
    schema[range.above_min ? "exclusiveMinimum" : "minimum"] = json_number(range.min);
  if (std::isfinite(range.max))
    schema[range.below_max ? "exclusiveMaximum" : "maximum"] = json_number(range.max);
}

OrderedJson number_schema(const char* type, const ValueRange& range) {
  OrderedJson schema = {{"type", type}};
  add_range(range, schema);
  return schema;
}

// Type, range and default of a key. A text that may be null has the default null when it is empty.
struct TypeSchema {
  const ConfigKey& key;

  OrderedJson operator()(const bool* value) const { return {{"type", "boolean"}, {"default", *value}}; }
  OrderedJson operator()(const int* value) const { return with_default(integer(), *value); }
  OrderedJson operator()(const std::int64_t* value) const { return with_default(integer(), *value); }
  OrderedJson operator()(const std::uint64_t* value) const {
    OrderedJson schema = integer();
    schema["minimum"] = 0;
    return with_default(std::move(schema), *value);
  }
  OrderedJson operator()(const double* value) const {
    return with_default(number_schema("number", key.range), *value);
  }
  OrderedJson operator()(const std::string* value) const {
    OrderedJson schema;
    if (key.nullable)
      schema["type"] = {"string", "null"};
    else
      schema["type"] = "string";
    if (!key.choices.empty()) schema["enum"] = key.choices;
    if (key.nullable && value->empty()) return with_default(std::move(schema), nullptr);
    return with_default(std::move(schema), *value);
  }
  OrderedJson operator()(const std::vector<std::int64_t>* values) const {
    return with_default({{"type", "array"}, {"items", integer()}}, *values);
  }
  OrderedJson operator()(NumberPair pair) const {
    OrderedJson schema = {{"type", "array"}, {"items", number_schema("number", key.range)}};
    schema["minItems"] = schema["maxItems"] = 2;
    return with_default(std::move(schema), {*pair.first, *pair.second});
  }
  OrderedJson operator()(IntegerOrFromTokenizer) const {
    OrderedJson schema;
    schema["anyOf"] = {integer(), {{"const", kFromTokenizer}}};
    return with_default(std::move(schema), kFromTokenizer);
  }

 private:
  OrderedJson integer() const {
    // What is planned but not built is as invalid as what is out of range.
    return number_schema("integer", std::isfinite(key.built.min) ? key.built : key.range);
  }
  OrderedJson with_default(OrderedJson schema, const OrderedJson& value) const {
    const bool depends_on_the_run = key.required || key.path.find("NAME") != std::string_view::npos;
    if (!depends_on_the_run) schema["default"] = value;
    return schema;
  }
};

OrderedJson node_schema(const SchemaNode& node, Config& defaults) {
  if (node.key != nullptr) {
    OrderedJson schema = std::visit(TypeSchema{*node.key}, node.key->field(defaults, {}));
    schema["description"] = node.key->meaning;
    return schema;
  }
  OrderedJson schema;
  if (node.section != nullptr) schema["description"] = node.section->meaning;
  if (node.is_list()) {
    schema["type"] = "array";
    schema["minItems"] = 1;
    schema["items"] = node_schema(node.children[0], defaults);
    return schema;
  }
  if (node.is_open_map()) {
    schema["type"] = "object";
    schema["minProperties"] = 1;
    schema["additionalProperties"] = node_schema(node.children[0], defaults);
    return schema;
  }
  schema["type"] = {"object", "null"};
  OrderedJson required = OrderedJson::array();
  for (const SchemaNode& child : node.children) {
    schema["properties"][child.name] = node_schema(child, defaults);
    if (child.key != nullptr ? child.key->required : child.section->required) required.push_back(child.name);
  }
  schema["additionalProperties"] = false;
  if (!required.empty()) {
    schema["required"] = required;
    schema["type"] = "object";
  }
  return schema;
}

}  // namespace

OrderedJson config_json_schema() {
  Config defaults;
  OrderedJson schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                        {"title", "Terroir configuration"}};
  schema.update(node_schema(config_schema_tree(), defaults));
  // `run` and `train` hold required keys, so they are required themselves.
  schema["required"] = {"run", "tokenizer", "data", "train"};
  return schema;
}

}  // namespace terroir
