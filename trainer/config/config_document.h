// What a configuration may hold, told from the schema's table to machines and to people.
#pragma once

#include <string>

#include "base/json.h"

namespace terroir {

// JSON Schema, draft 2020-12, of the YAML file: editors complete and check keys with it. It covers each key
// for itself; rules between keys are load_config()'s.
OrderedJson config_json_schema();

// docs/configuration.md, the whole file.
std::string config_markdown();

}  // namespace terroir
