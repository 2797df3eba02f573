// terroir checkpoint list | inspect | verify | diff
#include <fmt/core.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/model_json.h"
#include "trainer/checkpoint/verify.h"
#include "trainer/cli/command.h"

namespace terroir {
namespace fs = std::filesystem;
namespace {

constexpr int kDone = static_cast<int>(ExitCode::kDone);

void print_json(const OrderedJson& json) { fmt::print("{}\n", json.dump()); }

double megabytes(std::uint64_t bytes) { return static_cast<double>(bytes) * 1e-6; }

std::uint64_t total_bytes(const CheckpointManifest& manifest) {
  std::uint64_t bytes = 0;
  for (const StoredFile& file : manifest.files) bytes += file.bytes;
  return bytes;
}

std::set<std::string> states_of(const CheckpointManifest& manifest) {
  std::set<std::string> states;
  for (const auto& [name, tensor] : manifest.tensors)
    for (const auto& [state, slices] : tensor.states) states.insert(state);
  return states;
}

// Adds `words` with its options; run(options) when it is chosen.
template <class Options, class Run>
CLI::App* add_command(CLI::App& parent, CommandRunner& runner, const char* word, const char* purpose,
                      const std::shared_ptr<Options>& options, const Run& run) {
  CLI::App* command = parent.add_subcommand(word, purpose);
  command->add_flag("--json", options->json, "Print as JSON");
  command->callback([options, run, &runner] { runner.run = [options, run] { return run(*options); }; });
  return command;
}

// ---- list

struct PathOptions {
  std::string path;
  bool json = false;
};

OrderedJson list_entry(const StepFolder& folder) {
  OrderedJson entry{{"step", folder.step}, {"path", folder.path.string()}};
  const std::optional<std::string> damage = find_damage(folder.path);
  entry["valid"] = !damage;
  if (damage) {
    entry["problem"] = *damage;
  } else {
    entry["bytes"] = total_bytes(read_checkpoint_manifest(folder.path));
  }
  return entry;
}

int list_checkpoints(const PathOptions& options) {
  const fs::path path = options.path;
  if (!fs::is_directory(path))
    throw UserError(ExitCode::kUsage, Place{path.string()},
                    "is not a folder: name a run folder or its checkpoints folder");
  OrderedJson entries = OrderedJson::array();
  for (const StepFolder& folder :
       list_step_folders(fs::exists(path / "checkpoints") ? path / "checkpoints" : path))
    entries.push_back(list_entry(folder));
  if (options.json) {
    print_json(entries);
    return kDone;
  }
  for (const OrderedJson& entry : entries)
    fmt::print("{}  {}\n", entry["path"].get<std::string>(),
               entry["valid"].get<bool>()
                   ? fmt::format("{:.1f} MB", megabytes(entry["bytes"].get<std::uint64_t>()))
                   : "damaged: " + entry["problem"].get<std::string>());
  if (entries.empty()) fmt::print("{}: no checkpoints\n", path.string());
  return kDone;
}

// ---- inspect

OrderedJson inspect_json(const fs::path& path, const CheckpointManifest& manifest) {
  OrderedJson json{{"path", path.string()},
                   {"step", manifest.meta.step},
                   {"next_sample", manifest.meta.next_sample},
                   {"model", model_to_json(manifest.meta.model)},
                   {"tokenizer_sha256", manifest.meta.tokenizer_sha256},
                   {"extra", manifest.meta.extra},
                   {"bytes", total_bytes(manifest)}};
  for (const StoredFile& file : manifest.files) json["files"][file.name] = file.bytes;
  for (const auto& [name, tensor] : manifest.tensors) {
    OrderedJson& entry = json["tensors"][name];
    entry["shape"] = tensor.shape;
    for (const auto& [state, slices] : tensor.states) entry["slices"][state] = slices.size();
  }
  return json;
}

int inspect_checkpoint(const PathOptions& options) {
  const fs::path path = resolve_checkpoint(options.path);
  const CheckpointManifest manifest = read_checkpoint_manifest(path);
  if (options.json) {
    print_json(inspect_json(path, manifest));
    return kDone;
  }
  const CheckpointMeta& meta = manifest.meta;
  std::string states;
  for (const std::string& state : states_of(manifest)) states += " " + state;
  fmt::print("{}\nstep {}, next sample {}, {:.1f} MB in {} files\nmodel {}\nstates:{}\nextra {}\n",
             path.string(), meta.step, meta.next_sample, megabytes(total_bytes(manifest)),
             manifest.files.size(), model_to_json(meta.model).dump(), states, meta.extra.dump());
  for (const auto& [name, tensor] : manifest.tensors) {
    fmt::print("  {} {}", name, Json(tensor.shape).dump());
    for (const auto& [state, slices] : tensor.states)
      if (slices.size() > 1) fmt::print(" {} in {} slices", state, slices.size());
    fmt::print("\n");
  }
  return kDone;
}

// ---- verify

int verify(const PathOptions& options) {
  const fs::path path = resolve_checkpoint(options.path);
  const std::vector<Problem> problems = verify_checkpoint(path);
  if (!problems.empty()) throw UserError(ExitCode::kCheckpoint, problems);
  const CheckpointManifest manifest = read_checkpoint_manifest(path);
  if (options.json) {
    print_json({{"path", path.string()},
                {"valid", true},
                {"files", manifest.files.size()},
                {"bytes", total_bytes(manifest)}});
  } else {
    fmt::print("{}: whole ({} tensors, {} files, {:.1f} MB read)\n", path.string(), manifest.tensors.size(),
               manifest.files.size(), megabytes(total_bytes(manifest)));
  }
  return kDone;
}

// ---- diff

struct DiffOptions {
  std::string a, b;
  bool json = false;
};

OrderedJson difference_json(const StateDifference& difference) {
  OrderedJson json{{"tensor", difference.tensor}, {"state", difference.state}, {"kind", difference.kind}};
  if (difference.kind != "values") return json;
  json["elements"] = difference.num_elements;
  json["different"] = difference.num_different;
  json["max_difference"] = difference.max_difference;
  return json;
}

void print_differences(const std::vector<StateDifference>& differences) {
  for (const StateDifference& difference : differences) {
    fmt::print("{} {}: {}", difference.tensor, difference.state, difference.kind);
    if (difference.kind == "values")
      fmt::print(" ({} of {} elements, at most by {})", difference.num_different, difference.num_elements,
                 difference.max_difference);
    fmt::print("\n");
  }
  fmt::print("{}\n",
             differences.empty() ? "equal, bit for bit" : fmt::format("{} differences", differences.size()));
}

int diff(const DiffOptions& options) {
  const std::vector<StateDifference> differences =
      compare_checkpoints(resolve_checkpoint(options.a), resolve_checkpoint(options.b));
  if (options.json) {
    OrderedJson list = OrderedJson::array();
    for (const StateDifference& difference : differences) list.push_back(difference_json(difference));
    print_json({{"equal", differences.empty()}, {"differences", list}});
  } else {
    print_differences(differences);
  }
  return differences.empty() ? kDone : static_cast<int>(ExitCode::kCheckpoint);
}

constexpr const char* kCheckpointHelp = "A step-* folder, or a run folder: its newest valid one";

void add_path_command(CLI::App& parent, CommandRunner& runner, const char* word, const char* purpose,
                      int (*run)(const PathOptions&), const char* path_name, const char* path_help) {
  auto options = std::make_shared<PathOptions>();
  CLI::App* command = add_command(parent, runner, word, purpose, options, run);
  command->add_option(path_name, options->path, path_help)->required();
  command->footer(fmt::format("Example:\n  terroir checkpoint {} runs/quickstart", word));
}

}  // namespace

void add_checkpoint_commands(CLI::App& app, CommandRunner& runner) {
  CLI::App* checkpoint = app.add_subcommand("checkpoint", "Look into checkpoints");
  checkpoint->require_subcommand(1);
  add_path_command(*checkpoint, runner, "list", "Steps saved, newest first, and whether they are whole",
                   list_checkpoints, "RUN_DIR", "A run folder or its checkpoints folder");
  add_path_command(*checkpoint, runner, "inspect", "What a checkpoint says and holds", inspect_checkpoint,
                   "CKPT_DIR", kCheckpointHelp);
  add_path_command(*checkpoint, runner, "verify", "Read every byte and compare it with its hash", verify,
                   "CKPT_DIR", kCheckpointHelp);
  auto options = std::make_shared<DiffOptions>();
  CLI::App* command =
      add_command(*checkpoint, runner, "diff", "Compare two checkpoints' tensors", options, diff);
  command->add_option("A", options->a, kCheckpointHelp)->required();
  command->add_option("B", options->b, kCheckpointHelp)->required();
  command->footer(
      "Exit code 0 when equal bit for bit, 4 when not. The layouts that wrote them do not matter.\n\n"
      "Example:\n  terroir checkpoint diff runs/a/checkpoints/step-00000100 "
      "runs/b/checkpoints/step-00000100");
}

}  // namespace terroir
