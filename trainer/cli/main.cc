// The program: parses the command line, runs one command, turns exceptions into one line each and an exit
// code.
#include <fmt/core.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <new>

#include "base/error.h"
#include "trainer/cli/command.h"

namespace terroir {
namespace {

void add_commands(CLI::App& app, CommandRunner& runner) {
  add_tokenizer_commands(app, runner);
  add_data_commands(app, runner);
  add_train_command(app, runner);
  add_eval_command(app, runner);
  add_generate_command(app, runner);
  add_checkpoint_commands(app, runner);
  add_interop_commands(app, runner);
  add_config_commands(app, runner);
  add_report_command(app, runner);
  add_doctor_command(app, runner);
  add_planned_command(app, runner, "serve", "OpenAI-style /v1/completions");
  add_planned_command(app, runner, "verify-layout", "a layout against one rank");
  add_planned_command(app, runner, "plan", "memory, time and energy of layouts");
  add_planned_command(app, runner, "release", "gates, model card, attestation");
}

int run(int argc, char** argv) {
  CLI::App app("Terroir trains a region's language model on the region's own machines, from its own text.",
               "terroir");
  CommandRunner runner;
  app.set_version_flag("--version", TERROIR_VERSION);
  app.add_flag("-q,--quiet", runner.quiet, "Print errors and results only");
  app.require_subcommand(1);
  app.fallthrough();
  add_commands(app, runner);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::CallForAllHelp& help) {
    return app.exit(help);
  } catch (const CLI::CallForVersion& version) {
    return app.exit(version);
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "terroir: error: {} (see terroir{} --help)\n", error.what(),
               app.get_subcommands().empty() ? "" : " " + app.get_subcommands()[0]->get_name());
    return static_cast<int>(ExitCode::kUsage);
  }
  const int exit_code = runner.run();
  // A full disk must not look like success.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    throw SystemError::from_errno("write", "standard output", errno);
  return exit_code;
}

}  // namespace

}  // namespace terroir

int main(int argc, char** argv) {
  using terroir::ExitCode;
  try {
    return terroir::run(argc, argv);
  } catch (const terroir::Error& error) {
    fmt::print(stderr, "{}", terroir::error_report(error));
    return static_cast<int>(error.exit_code());
  } catch (const std::filesystem::filesystem_error& error) {
    const auto system =
        terroir::SystemError::from_errno("access", error.path1().string(), error.code().value());
    fmt::print(stderr, "{}", terroir::error_report(system));
    return static_cast<int>(system.exit_code());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "terroir: error: out of memory\n");
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}", terroir::error_report(error));
  }
  return static_cast<int>(ExitCode::kInternal);
}
