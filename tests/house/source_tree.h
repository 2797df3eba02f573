// The checkout that the tests were built from.
#pragma once

#include <string>
#include <vector>

namespace terroir::house {

// Paths of all files below `folder` ("" for the whole checkout) with one of these extensions, relative to the
// repository root and sorted. Leaves out what git ignores by name: build folders, runs, downloaded text.
std::vector<std::string> files_below(const std::string& folder, const std::vector<std::string>& extensions);

// The whole file; throws std::runtime_error if it cannot be read.
std::string read_source(const std::string& path);

bool source_exists(const std::string& path);

}  // namespace terroir::house
