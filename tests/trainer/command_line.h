// Runs a command in the test's process, as `main` would.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"
#include "trainer/cli/command.h"

namespace terroir {

struct CommandResult {
  int exit_code = 0;
  std::string out;
  std::string error;  // what main prints on stderr
};

// `add`: add_config_commands or one of its kind. `words`: the command line without the program's name.
inline CommandResult run_command(void (*add)(CLI::App&, CommandRunner&), std::vector<std::string> words) {
  CLI::App app("terroir");
  CommandRunner runner;
  add(app, runner);
  std::reverse(words.begin(), words.end());  // the order CLI11 wants
  CommandResult result;
  testing::internal::CaptureStdout();
  try {
    app.parse(words);
    result.exit_code = runner.run();
  } catch (const CLI::Error& error) {
    result.exit_code = static_cast<int>(ExitCode::kUsage);
    result.error = error.what();
  } catch (const Error& error) {
    result.exit_code = static_cast<int>(error.exit_code());
    result.error = error_report(error);
  }
  result.out = testing::internal::GetCapturedStdout();
  return result;
}

}  // namespace terroir
