#include "trainer/config/config_document.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "trainer/config/config_file.h"
#include "trainer/config/schema.h"

namespace terroir {
namespace {

// The part of the JSON Schema a key's path leads to.
const OrderedJson& schema_at(const OrderedJson& root, std::string_view path) {
  const OrderedJson* node = &root;
  for (std::string_view rest = path; !rest.empty();) {
    const std::size_t dot = std::min(rest.find('.'), rest.size());
    const std::string word(rest.substr(0, dot));
    rest.remove_prefix(std::min(dot + 1, rest.size()));
    node = word == "NAME" ? &node->at("additionalProperties")
           : word == "N"  ? &node->at("items")
                          : &node->at("properties").at(word);
  }
  return *node;
}

TEST(ConfigDocument, PageInDocsIsTheTables) {
  EXPECT_EQ(read_file(std::string(TERROIR_SOURCE_DIR) + "/docs/configuration.md"), config_markdown())
      << "run: terroir config schema --markdown > docs/configuration.md";
}

TEST(ConfigDocument, EveryKeyHasATypeAndAMeaningInTheJsonSchema) {
  const OrderedJson schema = config_json_schema();
  for (const ConfigKey& key : config_keys()) {
    const OrderedJson& node = schema_at(schema, key.path);
    EXPECT_EQ(node.at("description"), key.meaning) << key.path;
    EXPECT_TRUE(node.contains("type") || node.contains("anyOf")) << key.path;
  }
}

TEST(ConfigDocument, JsonSchemaHasTypesRangesChoicesAndDefaults) {
  const OrderedJson schema = config_json_schema();
  EXPECT_EQ(
      schema_at(schema, "train.steps").dump(),
      R"({"type":"integer","minimum":1,"maximum":1000000000,"description":"Optimizer steps of the whole run."})");
  EXPECT_EQ(schema_at(schema, "parallel.zero")["maximum"], 1);  // planned stages are not valid yet
  EXPECT_EQ(schema_at(schema, "parallel.schedule")["enum"], OrderedJson::parse(R"(["1f1b", "gpipe"])"));
  EXPECT_EQ(schema_at(schema, "optimizer.lr")["exclusiveMinimum"], 0);
  EXPECT_EQ(schema_at(schema, "optimizer.betas")["default"], OrderedJson::parse("[0.9, 0.95]"));
  EXPECT_EQ(schema_at(schema, "init_from")["default"], nullptr);
  EXPECT_EQ(schema_at(schema, "model.vocab_size")["default"], "from_tokenizer");
  EXPECT_EQ(schema_at(schema, "data.sources.NAME")["required"], OrderedJson::parse(R"(["shards"])"));
  EXPECT_EQ(schema["required"], OrderedJson::parse(R"(["run", "tokenizer", "data", "train"])"));
}

TEST(ConfigDocument, EveryKeyHasADefaultWithinItsOwnRange) {
  // Writing the defaults and reading them back goes through every range and choice.
  const std::vector<std::string> required = {"run.name=x", "tokenizer=t.json", "data.stages.0.sources.ko=1",
                                             "data.sources.ko.shards=k", "train.steps=1"};
  const Config config = parse_config("", "defaults.yaml", required);
  EXPECT_EQ(parse_config(to_yaml(config), "resolved.yaml"), config);
}

}  // namespace
}  // namespace terroir
