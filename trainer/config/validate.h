// Rules between keys, which the schema's table cannot say.
#pragma once

#include <string>
#include <vector>

#include "trainer/config/config.h"

namespace terroir {

// A rule that does not hold: between which keys (the first is where it is reported), and the message.
struct BrokenRule {
  std::vector<std::string> keys;
  std::string message;
};

std::vector<BrokenRule> broken_rules(const Config& config);
std::vector<BrokenRule> broken_world_rules(const Config& config, int world_size);

}  // namespace terroir
