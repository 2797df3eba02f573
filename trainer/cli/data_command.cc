// terroir data build|inspect|verify
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "data/shard/build_shards.h"
#include "data/shard/verify_shards.h"
#include "trainer/cli/command.h"

namespace terroir {
namespace {

// ---- build

// A status line that is overwritten on a terminal, otherwise a line every few seconds.
class BuildStatus {
 public:
  explicit BuildStatus(bool quiet) : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) == 1) {}

  void show(const BuildProgress& progress) {
    const auto now = std::chrono::steady_clock::now();
    if (quiet_ || now - last_ < (terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(5)))
      return;
    last_ = now;
    fmt::print(stderr, "{}{}: {} documents, {:.1f} MB, {:.2f} M tokens{}", terminal_ ? "\r\033[K" : "",
               progress.phase, progress.documents, static_cast<double>(progress.text_bytes) / 1e6,
               static_cast<double>(progress.tokens) / 1e6, terminal_ ? "" : "\n");
    std::fflush(stderr);
    shown_ = true;
  }
  ~BuildStatus() {
    if (shown_ && terminal_) std::fputs("\r\033[K", stderr);
  }
  BuildStatus(const BuildStatus&) = delete;
  BuildStatus& operator=(const BuildStatus&) = delete;

 private:
  bool quiet_, terminal_, shown_ = false;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

void print_totals(const Manifest& manifest) {
  for (const char* split : {kTrainSplit, kValidationSplit}) {
    const ManifestShard total = manifest.total(split);
    fmt::print(
        "{}: {} documents, {} tokens, {} bytes of text, {:.2f} bytes a token\n", split, total.documents,
        total.tokens, total.text_bytes,
        total.tokens == 0 ? 0 : static_cast<double>(total.text_bytes) / static_cast<double>(total.tokens));
  }
  fmt::print("{} documents read, {} exact duplicates dropped\n", manifest.documents_read,
             manifest.duplicates);
}

struct BuildArguments {
  std::string tokenizer;
  BuildOptions options;
  bool replace_invalid = false;
  bool json = false;
};

int build(const BuildArguments& arguments, bool quiet) {
  const Tokenizer tokenizer = Tokenizer::load(arguments.tokenizer);
  BuildOptions options = arguments.options;
  if (arguments.replace_invalid) options.reader.invalid_utf8 = InvalidUtf8::kReplace;
  BuildStatus status(quiet);
  options.progress = [&status](const BuildProgress& progress) { status.show(progress); };
  const Manifest manifest = build_shards(options, tokenizer);
  if (arguments.json) {
    fmt::print("{}\n", to_json(manifest).dump());
  } else if (!quiet) {
    print_totals(manifest);
    fmt::print("{} shards, {}\n", manifest.shards.size(),
               manifest_path(options.out_folder, options.source).string());
  }
  return static_cast<int>(ExitCode::kDone);
}

void add_build_options(CLI::App& command, BuildArguments& arguments) {
  BuildOptions& options = arguments.options;
  command.add_option("--tokenizer", arguments.tokenizer, "tokenizer.json")->required();
  command.add_option("--language", options.language, "Language tag of the text, such as ko")->required();
  command.add_option("--license", options.license, "SPDX expression of the text's licence")->required();
  command.add_option("--source", options.source, "Name of the corpus; names the files")->required();
  command.add_option("--out", options.out_folder, "Folder for the shards")->required();
  command
      .add_option("FILE", options.files, ".txt, .jsonl, .txt.zst or .jsonl.zst; - is text on standard input")
      ->required();
  command.add_option("--origin", options.origin, "Where the text came from: free text or a URL");
  command
      .add_option("--validation-fraction", options.validation_fraction,
                  "Part of the documents that is held out, chosen by their content")
      ->capture_default_str();
  command.add_option("--seed", options.seed, "Of the order of documents")->capture_default_str();
  command.add_option("--shard-tokens", options.shard_tokens, "Tokens after which a new shard begins")
      ->capture_default_str();
  command.add_option("--text-key", options.reader.text_key, "Key of the text in .jsonl")
      ->capture_default_str();
  command
      .add_option_function<std::string>(
          "--invalid-utf8",
          [&arguments](const std::string& value) { arguments.replace_invalid = value == "replace"; },
          "What to do with bytes that are not UTF-8: refuse (the default) or replace by U+FFFD")
      ->check(CLI::IsMember({"refuse", "replace"}));
  options.num_threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  command.add_option("--threads", options.num_threads, "Threads; the shards do not depend on it")
      ->capture_default_str();
  command.add_flag("--overwrite", options.overwrite, "Replace the source's shards in --out");
  command.add_flag("--json", arguments.json, "Print the manifest on standard output");
}

void add_build(CLI::App& data, CommandRunner& runner) {
  auto arguments = std::make_shared<BuildArguments>();
  CLI::App* command =
      data.add_subcommand("build", "Tokenize text into HDF5 shards, shuffled, without exact duplicates");
  add_build_options(*command, *arguments);
  command->footer(
      "Each line of .txt is a document; each line of .jsonl an object with the text under --text-key.\n"
      "Examples:\n"
      "  terroir data build --tokenizer tokenizer.json --language ko --license CC-BY-SA-4.0 \\\n"
      "    --source wiki-ko --origin https://ko.wikipedia.org --out data/ko dump.jsonl.zst\n"
      "  cat *.txt | terroir data build --tokenizer T.json --language id --license CC0-1.0 --source id --out "
      "data/id -");
  command->callback([arguments, &runner] {
    runner.run = [arguments, &runner] { return build(*arguments, runner.quiet); };
  });
}

// ---- inspect and verify

bool is_manifest(const std::filesystem::path& path) { return path.extension() == ".json"; }

Json inspect(const std::filesystem::path& path) {
  return is_manifest(path) ? Json(to_json(read_manifest(path))) : inspect_shard(path);
}

void print_text(const Json& json) {
  for (const auto& [name, value] : json.items())
    if (name == "shards") {
      for (const Json& shard : value)
        fmt::print("  {}: {} documents, {} tokens\n", shard["file"].get<std::string>(),
                   shard["documents"].get<std::int64_t>(), shard["tokens"].get<std::int64_t>());
    } else {
      fmt::print("{}: {}\n", name, value.is_string() ? value.get<std::string>() : value.dump());
    }
}

int inspect_all(const std::vector<std::filesystem::path>& paths, bool as_json) {
  for (const std::filesystem::path& path : paths) {
    Json json = inspect(path);
    if (as_json) {
      json["path"] = path.string();
      fmt::print("{}\n", json.dump());
    } else {
      fmt::print("{}\n", path.string());
      print_text(json);
    }
  }
  return static_cast<int>(ExitCode::kDone);
}

void add_inspect(CLI::App& data, CommandRunner& runner) {
  auto paths = std::make_shared<std::vector<std::filesystem::path>>();
  auto as_json = std::make_shared<bool>(false);
  CLI::App* command = data.add_subcommand("inspect", "What shards and manifests say about themselves");
  command->add_option("FILE", *paths, "SHARD.h5 or NAME.manifest.json")->required();
  command->add_flag("--json", *as_json, "One JSON object a line");
  command->footer("Example:\n  terroir data inspect --json data/ko/*.h5");
  command->callback(
      [paths, as_json, &runner] { runner.run = [paths, as_json] { return inspect_all(*paths, *as_json); }; });
}

// A folder stands for the manifests in it.
std::vector<std::filesystem::path> expand(const std::vector<std::filesystem::path>& given) {
  std::vector<std::filesystem::path> paths;
  for (const std::filesystem::path& path : given) {
    if (!std::filesystem::is_directory(path)) {
      paths.push_back(path);
      continue;
    }
    const std::size_t before = paths.size();
    for (const auto& entry : std::filesystem::directory_iterator(path))
      if (entry.path().filename().string().ends_with(".manifest.json")) paths.push_back(entry.path());
    if (paths.size() == before)
      throw UserError(
          ExitCode::kData, Place{path.string()},
          "holds no NAME.manifest.json: the build was interrupted or the manifest not copied; build again");
    std::sort(paths.begin() + static_cast<std::ptrdiff_t>(before), paths.end());
  }
  return paths;
}

int verify_all(const std::vector<std::filesystem::path>& given, bool as_json, bool quiet) {
  for (const std::filesystem::path& path : expand(given)) {
    if (is_manifest(path)) {
      verify_manifest(path, [quiet](const std::string& file) {
        if (!quiet) fmt::print(stderr, "verifying {}\n", file);
      });
    } else {
      verify_shard(path);
    }
    if (as_json) {
      fmt::print("{}\n", Json{{"path", path.string()}, {"verified", true}}.dump());
    } else if (!quiet) {
      fmt::print("{}: every hash holds\n", path.string());
    }
  }
  return static_cast<int>(ExitCode::kDone);
}

void add_verify(CLI::App& data, CommandRunner& runner) {
  auto paths = std::make_shared<std::vector<std::filesystem::path>>();
  auto as_json = std::make_shared<bool>(false);
  CLI::App* command =
      data.add_subcommand("verify", "Check sizes, hashes and every token of shards of any origin");
  command->add_option("PATH", *paths, "NAME.manifest.json (with its shards), a folder of them, or SHARD.h5")
      ->required();
  command->add_flag("--json", *as_json, "One JSON object a line");
  command->footer(
      "Each shard is opened in a process of its own: a file made to crash its reader is rejected (exit 3).\n"
      "Example:\n  terroir data verify data/ko");
  command->callback([paths, as_json, &runner] {
    runner.run = [paths, as_json, &runner] { return verify_all(*paths, *as_json, runner.quiet); };
  });
}

}  // namespace

void add_data_commands(CLI::App& app, CommandRunner& runner) {
  CLI::App* data = app.add_subcommand("data", "Build and check token shards");
  data->require_subcommand(1);
  add_build(*data, runner);
  add_inspect(*data, runner);
  add_verify(*data, runner);
  add_planned_command(*data, runner, "import", "token data of other trainers");
  add_planned_command(*data, runner, "export", "shards to other formats");
  add_planned_command(*data, runner, "takedown", "mask documents in built shards");
}

}  // namespace terroir
