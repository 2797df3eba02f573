#include "trainer/config/config_file.h"

#include <algorithm>

#include "base/file.h"
#include "trainer/config/overrides.h"
#include "trainer/config/read_config.h"
#include "trainer/config/validate.h"

namespace terroir {
namespace {

// The place of a key, else of the nearest section around it that was given, else the file.
Place nearest_place(const std::map<std::string, Place>& places, const std::string& file,
                    const std::string& key) {
  for (std::string path = key; !path.empty();) {
    if (const auto found = places.find(path); found != places.end()) {
      Place place = found->second;
      place.key = key;
      return place;
    }
    const std::size_t dot = path.rfind('.');
    path = dot == std::string::npos ? "" : path.substr(0, dot);
  }
  return Place{file, 0, 0, key};
}

// Rules between keys of which one was refused already are not reported: that key's field holds a default.
void add_broken_rules(const std::vector<BrokenRule>& rules, const ReadConfig& read, const std::string& file,
                      std::vector<Problem>& problems) {
  for (const BrokenRule& rule : rules) {
    const bool doubtful = std::any_of(rule.keys.begin(), rule.keys.end(),
                                      [&](const std::string& key) { return read.refused.contains(key); });
    if (!doubtful) problems.push_back({nearest_place(read.places, file, rule.keys[0]), rule.message});
  }
}

std::vector<Problem> by_key(const std::vector<BrokenRule>& rules) {
  std::vector<Problem> problems;
  for (const BrokenRule& rule : rules)
    problems.push_back({Place{.file = "", .key = rule.keys[0]}, rule.message});
  return problems;
}

void resolve(Config& config) {
  ModelConfig& model = config.model;
  if (model.head_dim == 0) model.head_dim = model.hidden_size / model.num_attention_heads;
  if (model.max_position_embeddings == 0) model.max_position_embeddings = config.data.sequence_length;
}

}  // namespace

Config parse_config(std::string_view text, const std::string& name, std::span<const std::string> overrides,
                    int world_size) {
  std::vector<Problem> problems;
  if (text.size() > kMaxYamlBytes)
    throw UserError(
        ExitCode::kUsage, Place{name},
        fmt::format("{} bytes are no configuration: at most {} are read", text.size(), kMaxYamlBytes));
  std::optional<YamlNode> root = parse_yaml(text, YamlOrigin{.file = name}, problems);
  if (!root) throw UserError(ExitCode::kUsage, std::move(problems));
  apply_overrides(*root, overrides, problems);
  ReadConfig read = read_config(*root, problems);
  add_broken_rules(broken_rules(read.config), read, name, problems);
  if (world_size > 0) add_broken_rules(broken_world_rules(read.config, world_size), read, name, problems);
  if (!problems.empty()) throw UserError(ExitCode::kUsage, std::move(problems));
  resolve(read.config);
  return std::move(read.config);
}

Config load_config(const std::filesystem::path& path, std::span<const std::string> overrides,
                   int world_size) {
  return parse_config(read_file(path, ExitCode::kUsage, kMaxYamlBytes), path.string(), overrides, world_size);
}

std::vector<Problem> validate(const Config& config) { return by_key(broken_rules(config)); }

std::vector<Problem> validate_for_world(const Config& config, int world_size) {
  TERROIR_CHECK(world_size > 0, "world of {} ranks", world_size);
  return by_key(broken_world_rules(config, world_size));
}

}  // namespace terroir
