// Who may include whom. The table in layering.cc is the rule of docs/architecture.md, read by a test.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace terroir::house {

// Every #include of `text`, the content of the file `path` (relative to the repository root), that `path` may
// not have; each as "path:line: what is wrong". Includes of third parties (<...>) are not looked at. A path
// that belongs to no layer is itself a violation: a new folder has to take its place in the table.
std::vector<std::string> layering_violations(std::string_view path, std::string_view text);

}  // namespace terroir::house
