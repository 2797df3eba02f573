// Values as YAML text.
#pragma once

#include <string>
#include <string_view>

#include "trainer/config/schema.h"

namespace terroir {

// A text that YAML reads back as the same text: bare where that is safe, else in double quotes.
std::string yaml_text(std::string_view text);

// The value of a key in `config` (not changed: fields are found through mutable access), as it stands behind
// "key: ".
std::string yaml_value(const ConfigKey& key, Config& config, const Captures& at);

}  // namespace terroir
