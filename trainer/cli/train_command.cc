// terroir train
#include <fmt/core.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "parallel/world.h"
#include "trainer/cli/command.h"
#include "trainer/config/config_file.h"
#include "trainer/step/signals.h"
#include "trainer/step/training.h"

namespace terroir {
namespace {

// Errors that all ranks share are rank 0's to print; another rank speaks up only when rank 0 has not ended
// the job meanwhile, because the error was its own.
constexpr std::chrono::seconds kRankZeroSpeaksFirst{2};

ExitCode fail(World& world, const std::exception& error, ExitCode exit_code) {
  const bool of_all_ranks = dynamic_cast<const UserError*>(&error) != nullptr;
  if (world.rank() != 0 && of_all_ranks) std::this_thread::sleep_for(kRankZeroSpeaksFirst);
  fmt::print(stderr, "{}", error_report(error));
  std::fflush(stderr);
  world.abort(static_cast<int>(exit_code));
  return exit_code;
}

ExitCode run_train(const std::string& path, const std::vector<std::string>& overrides,
                   const TrainingOptions& options) {
  const SignalThread signal_thread;  // before any other thread
  // A configuration that is refused must not start MPI in vain, yet who prints it is known only by rank.
  Config config;
  std::exception_ptr refused;
  try {
    config = load_config(path, overrides);
  } catch (const UserError&) {
    refused = std::current_exception();
  }
  const WorldOptions world_options{.timeout_s = config.parallel.timeout_s};
  const std::unique_ptr<World> world = launched_by_mpi() ? mpi_world(world_options) : local_world();
  try {
    if (refused) std::rethrow_exception(refused);
    return train(std::move(config), *world, options);
  } catch (const Error& error) {
    return fail(*world, error, error.exit_code());
  } catch (const std::exception& error) {
    return fail(*world, error, ExitCode::kInternal);
  }
}

}  // namespace

void add_train_command(CLI::App& app, CommandRunner& runner) {
  CLI::App* command = app.add_subcommand("train", "Train a model, in one process or under mpirun or srun");
  struct Arguments {
    std::string config;
    std::vector<std::string> overrides;
    bool dry_run = false;
  };
  auto arguments = std::make_shared<Arguments>();
  command->add_option("CONFIG", arguments->config, "YAML file")->required();
  command->add_option("OVERRIDES", arguments->overrides, "key.path=value ...");
  command->add_flag("--dry-run", arguments->dry_run,
                    "Check everything, print the memory plan, write nothing");
  command->footer(
      "Examples:\n"
      "  terroir train configs/quickstart.yaml train.steps=500\n"
      "  mpirun -np 4 terroir train configs/quickstart.yaml parallel.tensor=2 parallel.pipeline=2\n"
      "A run goes on from its newest valid checkpoint. SIGUSR1, SIGTERM or a file STOP in the run folder: "
      "save after\n"
      "the current step and leave with exit code 75.");
  command->callback([arguments, &runner] {
    runner.run = [arguments, &runner] {
      return static_cast<int>(
          run_train(arguments->config, arguments->overrides, {arguments->dry_run, runner.quiet}));
    };
  });
}

}  // namespace terroir
