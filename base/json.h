// Strict JSON: what untrusted files are read with. Unlike the parser's defaults, duplicate keys, a byte order
// mark, integers that do not fit 64 bits, nesting deeper than 64 and text beyond the size limit are refused.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"

namespace terroir {

using Json = nlohmann::json;                 // objects sorted by key
using OrderedJson = nlohmann::ordered_json;  // objects in the order written

struct JsonLimits {
  std::uint64_t max_bytes = std::uint64_t{1} << 28;
  int max_depth = 64;
};

// Throws UserError(exit_code) with `file`:line:column and the reason. `first_line` is the line of the file
// the text begins at (for JSON Lines).
Json parse_json(std::string_view text, const std::string& file, ExitCode exit_code, JsonLimits limits = {},
                int first_line = 1);

// Member access that names what is missing or wrong: json_at<std::int64_t>(object, "step", place, exit_code).
// Place::key is extended by the member's name. T: bool, std::int64_t, double, std::string, Json (any).
template <class T>
T json_at(const Json& object, const std::string& name, const Place& place, ExitCode exit_code);

}  // namespace terroir
