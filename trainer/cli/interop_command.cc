// terroir import hf | export hf
#include <fmt/core.h>

#include <cstdio>
#include <memory>
#include <string>

#include "base/json.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/cli/command.h"
#include "trainer/interop/export_hf.h"
#include "trainer/interop/import_hf.h"

namespace terroir {
namespace {

void print_json(const OrderedJson& json) { fmt::print("{}\n", json.dump()); }

// ---- import hf

struct ImportArguments {
  ImportHfOptions options;
  bool json = false;
};

int run_import(const ImportArguments& arguments, const CommandRunner& runner) {
  const ImportHfReport report = import_hf(arguments.options);
  const std::string checkpoint = arguments.options.checkpoint.string();
  if (arguments.json) {
    print_json({{"checkpoint", checkpoint},
                {"model_type", report.model_type},
                {"tensors", report.num_tensors},
                {"parameters", report.num_parameters},
                {"dtype", report.dtype},
                {"tokenizer", report.has_tokenizer}});
  } else if (!runner.quiet) {
    fmt::print("{}: {}, {} parameters in {} tensors ({}){}\n", checkpoint, report.model_type,
               report.num_parameters, report.num_tensors, report.dtype,
               report.has_tokenizer ? "" : "; no tokenizer.json was there");
  }
  return static_cast<int>(ExitCode::kDone);
}

void add_import_hf(CLI::App& parent, CommandRunner& runner) {
  auto arguments = std::make_shared<ImportArguments>();
  CLI::App* command =
      parent.add_subcommand("hf", "A Hugging Face folder (Llama, Qwen2, Qwen3) into a checkpoint");
  command->footer(
      "Examples:\n"
      "  terroir import hf Qwen3-0.6B --out runs/base\n"
      "  terroir train continued.yaml init_from=runs/base");
  command->add_option("HF_DIR", arguments->options.folder, "Folder with config.json and model*.safetensors")
      ->required();
  command->add_option("--out", arguments->options.checkpoint, "The checkpoint folder to write")->required();
  command->add_flag("--overwrite", arguments->options.overwrite, "Replace an existing checkpoint");
  command->add_flag("--json", arguments->json, "Print what was imported as JSON");
  command->callback(
      [arguments, &runner] { runner.run = [arguments, &runner] { return run_import(*arguments, runner); }; });
}

// ---- export hf

struct ExportArguments {
  ExportHfOptions options;
  std::string dtype, max_shard_size = "5GB";
  bool json = false;
};

ExportHfOptions checked_options(const ExportArguments& arguments) {
  ExportHfOptions options = arguments.options;
  options.max_shard_bytes = parse_size(arguments.max_shard_size);
  options.checkpoint = resolve_checkpoint(options.checkpoint);
  if (!arguments.dtype.empty())
    options.dtype = arguments.dtype == "bf16" ? ExportDType::kBF16 : ExportDType::kF32;
  return options;
}

int run_export(const ExportArguments& arguments, const CommandRunner& runner) {
  const ExportHfOptions options = checked_options(arguments);
  const ExportHfReport report = export_hf(options);
  const std::string folder = options.folder.string();
  for (const std::string& warning : report.warnings) fmt::print(stderr, "terroir: warning: {}\n", warning);
  if (arguments.json) {
    print_json({{"folder", folder},
                {"checkpoint", options.checkpoint.string()},
                {"dtype", export_dtype_name(report.dtype)},
                {"tensors", report.num_tensors},
                {"parameters", report.num_parameters},
                {"total_bytes", report.total_bytes},
                {"files", report.files},
                {"warnings", report.warnings}});
  } else if (!runner.quiet) {
    fmt::print("{}: {} parameters as {}, {} files, from {}\n", folder, report.num_parameters,
               export_dtype_name(report.dtype), report.files.size(), options.checkpoint.string());
  }
  return static_cast<int>(ExitCode::kDone);
}

void add_export_hf(CLI::App& parent, CommandRunner& runner) {
  auto arguments = std::make_shared<ExportArguments>();
  CLI::App* command = parent.add_subcommand("hf", "A checkpoint into a Hugging Face folder");
  command->footer(
      "Example:\n"
      "  terroir export hf --checkpoint runs/quickstart --out quickstart-hf --dtype bf16");
  command
      ->add_option("--checkpoint", arguments->options.checkpoint,
                   "A step-* folder, or a run folder: its newest")
      ->required();
  command->add_option("--out", arguments->options.folder, "The folder to write")->required();
  command
      ->add_option("--dtype", arguments->dtype,
                   "Default: bf16 for a model imported as bf16, f32 for all others")
      ->check(CLI::IsMember({"f32", "bf16"}));
  command->add_option("--max-shard-size", arguments->max_shard_size, "Largest weight file")
      ->capture_default_str();
  command->add_flag("--overwrite", arguments->options.overwrite, "Replace an existing Hugging Face folder");
  command->add_flag("--json", arguments->json, "Print what was exported as JSON");
  command->callback(
      [arguments, &runner] { runner.run = [arguments, &runner] { return run_export(*arguments, runner); }; });
}

}  // namespace

void add_interop_commands(CLI::App& app, CommandRunner& runner) {
  CLI::App* import = app.add_subcommand("import", "Take a model of another format");
  import->require_subcommand(1);
  add_import_hf(*import, runner);
  CLI::App* exporter = app.add_subcommand("export", "Give a checkpoint to other programs");
  exporter->require_subcommand(1);
  add_export_hf(*exporter, runner);
  add_planned_command(*exporter, runner, "gguf", "write a checkpoint as a GGUF file");
}

}  // namespace terroir
