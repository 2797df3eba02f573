#include <cmath>

#include "trainer/config/config_document.h"
#include "trainer/config/schema.h"
#include "trainer/config/yaml_text.h"

namespace terroir {
namespace {

constexpr std::string_view kHead = R"(# Configuration

<!-- Written by `terroir config schema --markdown` from trainer/config/schema_table.cc. Change it there. -->

`terroir train CONFIG [key=value ...]` reads one YAML file. Every key has a default unless it is *required*; unknown and
repeated keys, wrong types and values out of range are refused with their line and column, all at once. Anchors, aliases,
tags and merge keys are not read. Integers may be written `3e9`. Paths are relative to the working directory.

- `key=value` on the command line changes one key: `train.steps=500`, `optimizer.betas=[0.9, 0.99]`,
  `data.stages.0.sources.ko=0.5`, `data.sources.tl={shards: "tl/*.h5"}`. The last of a key wins.
- `terroir config show CONFIG [key=value ...]` prints every key with its value, as the run keeps it in
  `config.resolved.yaml`; `terroir config schema` prints a JSON Schema for editors.
- In the tables, `NAME` is a word of yours and `N` a place in a list, from 0.
)";

std::string range_text(const ConfigKey& key) {
  if (!key.choices.empty()) {
    std::string text;
    for (const std::string_view choice : key.choices)
      text += fmt::format("{}`{}`", text.empty() ? "" : ", ", choice);
    return text;
  }
  return to_string(std::isfinite(key.built.min) ? key.built : key.range);
}

std::string default_text(const ConfigKey& key, Config& defaults) {
  if (key.required) return "*required*";
  if (key.path.ends_with("NAME")) return "";
  return fmt::format("`{}`", yaml_value(key, defaults, {}));
}

std::string row(const ConfigKey& key, Config& defaults) {
  return fmt::format("| `{}` | {} | {} | {} | {} |\n", key.path, type_name(key.field(defaults, {})),
                     default_text(key, defaults), range_text(key), key.meaning);
}

}  // namespace

std::string config_markdown() {
  Config defaults;
  std::string text(kHead);
  std::string_view section = "none yet";
  for (const ConfigKey& key : config_keys()) {
    const std::size_t dot = key.path.find('.');
    const std::string_view top = dot == std::string_view::npos ? std::string_view() : key.path.substr(0, dot);
    if (top != section) {
      section = top;
      text += fmt::format("\n## {}\n", top.empty() ? "At the top" : fmt::format("`{}`", top));
      for (const ConfigSection& known : config_sections())
        if (known.path == top) text += fmt::format("{}\n", known.meaning);
      text += "\n| Key | Type | Default | Range | Meaning |\n|---|---|---|---|---|\n";
    }
    text += row(key, defaults);
  }
  return text;
}

}  // namespace terroir
