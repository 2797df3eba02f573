#include "tests/house/source_tree.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace terroir::house {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = TERROIR_SOURCE_DIR;

bool is_ignored(const fs::path& relative) {
  const std::string path = relative.string();
  return path.starts_with("build") || path.starts_with(".") || path == "runs" || path == "data/quickstart";
}

}  // namespace

std::vector<std::string> files_below(const std::string& folder, const std::vector<std::string>& extensions) {
  std::vector<std::string> found;
  auto it = fs::recursive_directory_iterator(kRoot / folder);
  for (; it != fs::recursive_directory_iterator(); ++it) {
    const fs::path relative = it->path().lexically_relative(kRoot);
    if (it->is_directory()) {
      if (is_ignored(relative)) it.disable_recursion_pending();
      continue;
    }
    if (std::ranges::count(extensions, relative.extension().string()) > 0) found.push_back(relative.string());
  }
  std::ranges::sort(found);
  return found;
}

std::string read_source(const std::string& path) {
  std::ifstream file(kRoot / path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  if (!file) throw std::runtime_error("cannot read " + path);
  return content.str();
}

bool source_exists(const std::string& path) { return fs::exists(kRoot / path); }

}  // namespace terroir::house
