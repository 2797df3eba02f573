// One value of the YAML tree into one field.
#pragma once

#include <string>

#include "trainer/config/schema.h"
#include "trainer/config/yaml_tree.h"

namespace terroir {

// Stores the value and returns "", or leaves the field alone and returns what is wrong and what to do.
std::string read_value(const ConfigKey& key, const YamlNode& node, const Field& field);

}  // namespace terroir
