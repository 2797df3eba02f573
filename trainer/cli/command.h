// How a command joins the program: a function adds its subcommands to the CLI11 application and, when one is
// chosen on the command line, sets runner.run. `main` calls runner.run() and turns exceptions into lines and
// exit codes.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <string>

namespace terroir {

struct CommandRunner {
  std::function<int()> run;  // returns the exit code
  bool quiet = false;        // --quiet, set before run() is called
};

void add_checkpoint_commands(CLI::App& app, CommandRunner& runner);  // checkpoint list|inspect|verify|diff
void add_config_commands(CLI::App& app, CommandRunner& runner);      // config show|schema
void add_data_commands(CLI::App& app, CommandRunner& runner);        // data build|inspect|verify
void add_doctor_command(CLI::App& app, CommandRunner& runner);
void add_eval_command(CLI::App& app, CommandRunner& runner);
void add_generate_command(CLI::App& app, CommandRunner& runner);
void add_interop_commands(CLI::App& app, CommandRunner& runner);  // import hf, export hf
void add_report_command(CLI::App& app, CommandRunner& runner);
void add_tokenizer_commands(CLI::App& app, CommandRunner& runner);  // tokenizer train|encode|decode|report
void add_train_command(CLI::App& app, CommandRunner& runner);

// A subcommand that is planned but not built: chosen, it ends with exit 2 and says so. `words`: "serve".
void add_planned_command(CLI::App& parent, CommandRunner& runner, const std::string& words,
                         const std::string& purpose);

}  // namespace terroir
