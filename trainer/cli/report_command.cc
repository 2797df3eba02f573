// terroir report
#include "trainer/report/report_page.h"

#include <filesystem>
#include <memory>
#include <string>

#include "base/file.h"
#include "trainer/cli/command.h"
#include "trainer/report/summary.h"

namespace terroir {
namespace {

struct ReportOptions {
  std::string run_folder;
  std::string out;  // empty: report.html in the run's folder
  bool json = false;
};

int write_report(const ReportOptions& options, bool quiet) {
  const RunData run = read_run(options.run_folder);
  const std::filesystem::path path = options.out.empty()
                                         ? std::filesystem::path(options.run_folder) / "report.html"
                                         : std::filesystem::path(options.out);
  write_file_atomically(path, report_page(run));
  if (options.json) {
    OrderedJson summary = to_json(run, summarize(run));
    summary["report"] = path.string();
    fmt::print("{}\n", summary.dump());
  } else if (!quiet) {
    fmt::print("{}\n", path.string());
  }
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace

void add_report_command(CLI::App& app, CommandRunner& runner) {
  CLI::App* command =
      app.add_subcommand("report", "Write a run's report: one HTML file with plots, tables and samples");
  auto options = std::make_shared<ReportOptions>();
  command->add_option("RUN_DIR", options->run_folder, "Folder of a run, running or finished")->required();
  command->add_option("--out", options->out, "Where to write; RUN_DIR/report.html if not given");
  command->add_flag("--json", options->json, "Print the run's final numbers as one JSON object");
  command->footer(
      "Shows RUN_DIR/samples.jsonl too, if there is one: {\"language\", \"prompt\", \"text\", \"step\"} a "
      "line.\n\n"
      "Examples:\n"
      "  terroir report runs/quickstart\n"
      "  terroir report runs/quickstart --out /tmp/quickstart.html --json");
  command->callback([options, &runner] {
    runner.run = [options, &runner] { return write_report(*options, runner.quiet); };
  });
}

}  // namespace terroir
