// From the tree of a YAML file to a Config, by the schema's table.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "trainer/config/config.h"
#include "trainer/config/yaml_tree.h"

namespace terroir {

struct ReadConfig {
  Config config;
  std::map<std::string, Place> places;  // of every key and section that was given
  std::set<std::string> refused;        // keys that a problem names: their fields hold defaults
};

// Appends to `problems`: unknown keys, wrong types, values out of range or not built, missing required keys.
// Keys that have a problem there already get no second one.
ReadConfig read_config(const YamlNode& root, std::vector<Problem>& problems);

}  // namespace terroir
