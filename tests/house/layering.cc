#include "tests/house/layering.h"

#include <algorithm>
#include <optional>
#include <regex>
#include <sstream>

namespace terroir::house {
namespace {

struct Layer {
  std::string folder;                // a file belongs to the longest folder that holds it
  std::vector<std::string> allowed;  // folders or files it may include, besides itself
};

// Inside trainer/ arrows point to earlier lines only; folders on one line are siblings and do not know each
// other.
const std::vector<std::vector<std::string>> kTrainerOrder = {
    {"trainer/config", "trainer/metrics"},  // what goes in and what comes out, as plain data
    {"trainer/checkpoint"},                 // slices of named tensors; knows no layer
    {"trainer/model"},
    {"trainer/optimizer"},
    {"trainer/step"},
    {"trainer/eval", "trainer/interop", "trainer/plan", "trainer/report"},
    {"trainer/cli"},
};

std::vector<Layer> all_layers() {
  std::vector<Layer> layers = {
      {"base", {}},  // nothing of ours
      {"kernels/tensor", {"base", "kernels/op_table.h"}},
      {"kernels", {"base"}},
      {"parallel", {"base", "kernels/tensor"}},
      {"data", {"base"}},
  };
  std::vector<std::string> below = {"base", "kernels", "parallel", "data"};
  for (const auto& siblings : kTrainerOrder) {
    for (const auto& folder : siblings) layers.push_back({folder, below});
    below.insert(below.end(), siblings.begin(), siblings.end());
  }
  return layers;
}

bool is_inside(std::string_view path, const std::string& folder_or_file) {
  return path == folder_or_file || path.starts_with(folder_or_file + "/");
}

const Layer* layer_of(std::string_view path) {
  static const std::vector<Layer> layers = all_layers();
  const Layer* best = nullptr;
  for (const Layer& layer : layers) {
    const bool longer = best == nullptr || layer.folder.size() > best->folder.size();
    if (longer && is_inside(path, layer.folder)) best = &layer;
  }
  return best;
}

std::optional<std::string> included_path(const std::string& line) {
  static const std::regex pattern(R"(^\s*#\s*include\s+"([^"]*)\")");
  std::smatch match;
  if (!std::regex_search(line, match, pattern)) return std::nullopt;
  return match[1].str();
}

bool may_include(const Layer& layer, std::string_view included) {
  if (is_inside(included, layer.folder)) return true;
  return std::ranges::any_of(layer.allowed,
                             [&](const auto& allowed) { return is_inside(included, allowed); });
}

}  // namespace

std::vector<std::string> layering_violations(std::string_view path, std::string_view text) {
  const Layer* layer = layer_of(path);
  if (layer == nullptr) return {std::string(path) + ":1: lies in no layer of tests/house/layering.cc"};
  std::vector<std::string> violations;
  std::istringstream lines{std::string(text)};
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const auto included = included_path(line);
    if (!included || may_include(*layer, *included)) continue;
    violations.push_back(std::string(path) + ":" + std::to_string(number) + ": " + layer->folder +
                         " may not include \"" + *included + "\"");
  }
  return violations;
}

}  // namespace terroir::house
