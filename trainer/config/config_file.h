// Configuration files: YAML with `key.path=value` overrides in, a Config out, and back.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "trainer/config/config.h"

namespace terroir {

// Reads, checks and resolves. All problems are reported at once, in one UserError (exit 2) with a place each:
// "file:line:column: path.to.key: ..." or "command line: path.to.key: ...". Paths in the file are relative to
// the working directory, and none is opened here. With a `world_size`, what depends on the number of ranks is
// checked too. Resolved: model.head_dim and model.max_position_embeddings are never 0; model.vocab_size may
// be from_tokenizer.
Config load_config(const std::filesystem::path& path, std::span<const std::string> overrides = {},
                   int world_size = 0);

// The same from text; `name` stands for the file in messages.
Config parse_config(std::string_view text, const std::string& name,
                    std::span<const std::string> overrides = {}, int world_size = 0);

// Every key with its value: load_config() of it gives an equal Config. What config.resolved.yaml holds.
// REQUIRES: config came from load_config() (or satisfies validate()).
std::string to_yaml(const Config& config);

// What `config` itself gets wrong, by key (places have neither file nor line).
std::vector<Problem> validate(const Config& config);

// What does not fit `world_size` ranks: the layout and the batch, with every number.
std::vector<Problem> validate_for_world(const Config& config, int world_size);

}  // namespace terroir
