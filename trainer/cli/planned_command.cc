#include "base/error.h"
#include "trainer/cli/command.h"

namespace terroir {

void add_planned_command(CLI::App& parent, CommandRunner& runner, const std::string& words,
                         const std::string& purpose) {
  CLI::App* command = parent.add_subcommand(words, purpose + " (planned, not built yet)");
  command->allow_extras()->fallthrough(
      false);  // its options are not known yet: none may be complained about first
  const std::string name = parent.get_parent() == nullptr ? words : parent.get_name() + " " + words;
  command->callback([&runner, name] {
    runner.run = [name]() -> int {
      throw UserError(ExitCode::kUsage, Place{}, name + " is planned but not built yet");
    };
  });
}

}  // namespace terroir
