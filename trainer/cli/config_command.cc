// terroir config show | schema
#include <cstdio>
#include <string>
#include <vector>

#include "trainer/cli/command.h"
#include "trainer/config/config_document.h"
#include "trainer/config/config_file.h"

namespace terroir {
namespace {

struct ShowOptions {
  std::string config;
  std::vector<std::string> overrides;
  int world_size = 0;
};

void add_show(CLI::App& config, CommandRunner& runner) {
  CLI::App* command = config.add_subcommand("show", "Print every key with its value, as a run would take it");
  auto options = std::make_shared<ShowOptions>();
  command->add_option("CONFIG", options->config, "YAML file")->required();
  command->add_option("OVERRIDES", options->overrides, "key.path=value ...");
  command->add_option("--world", options->world_size, "Also check layout and batch for this many ranks")
      ->check(CLI::PositiveNumber);
  command->footer(
      "Examples:\n"
      "  terroir config show configs/quickstart.yaml\n"
      "  terroir config show configs/quickstart.yaml train.steps=500 parallel.tensor=4 --world 8");
  command->callback([options, &runner] {
    runner.run = [options] {
      const Config resolved = load_config(options->config, options->overrides, options->world_size);
      std::fputs(to_yaml(resolved).c_str(), stdout);
      return static_cast<int>(ExitCode::kDone);
    };
  });
}

void add_schema(CLI::App& config, CommandRunner& runner) {
  CLI::App* command = config.add_subcommand("schema", "Print what a configuration may hold");
  auto markdown = std::make_shared<bool>(false);
  command->add_flag("--markdown", *markdown, "As docs/configuration.md instead of a JSON Schema");
  command->footer("Example:\n  terroir config schema > terroir.schema.json");
  command->callback([markdown, &runner] {
    runner.run = [markdown] {
      const std::string text = *markdown ? config_markdown() : config_json_schema().dump(2) + "\n";
      std::fputs(text.c_str(), stdout);
      return static_cast<int>(ExitCode::kDone);
    };
  });
}

}  // namespace

void add_config_commands(CLI::App& app, CommandRunner& runner) {
  CLI::App* config = app.add_subcommand("config", "Show and check configurations");
  config->require_subcommand(1);
  add_show(*config, runner);
  add_schema(*config, runner);
}

}  // namespace terroir
