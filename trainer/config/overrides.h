// `key.path=value` on the command line, laid over the file's tree before anything is checked.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "trainer/config/yaml_tree.h"

namespace terroir {

// Applies each override in turn, so that the last of a key wins. The value is read as YAML ("0.1", "[3, 5]",
// "{ko: 1}", "null"); sections on the way are made as needed, and a number in the path is a place in a list
// (its length appends). Their places read "command line: key.path". Appends what is refused to `problems`.
void apply_overrides(YamlNode& root, std::span<const std::string> overrides, std::vector<Problem>& problems);

}  // namespace terroir
