// Checks everything that was written down about shards, without trusting them.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "base/json.h"
#include "data/shard/shard_info.h"

namespace terroir {

// Opens a shard of unknown origin in a process of its own and returns its attributes and the index hash
// ("index_hash"). Token blocks are not read. UserError (exit 3).
Json inspect_shard(const std::filesystem::path& path);

// As inspect_shard(), and compares every block of tokens with its hash and the vocabulary.
Json verify_shard(const std::filesystem::path& path);

// Verifies every shard the manifest lists: size, SHA-256, verify_shard(), and that the shard says of itself
// what the manifest says. `progress` is called with each file's path before its turn. UserError (exit 3) at
// the first problem.
void verify_manifest(const std::filesystem::path& path,
                     const std::function<void(const std::string&)>& progress);

}  // namespace terroir
