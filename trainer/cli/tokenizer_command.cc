// terroir tokenizer train|encode|decode|report
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <thread>

#include "base/file.h"
#include "base/json.h"
#include "data/corpus/document_reader.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train.h"
#include "trainer/cli/command.h"
#include "trainer/cli/tokenizer_report.h"

namespace terroir {
namespace {

constexpr const char* kStdin = "standard input";

std::string read_stdin() {
  std::string text;
  char chunk[1 << 16];
  for (;;) {
    const ssize_t got = ::read(STDIN_FILENO, chunk, sizeof chunk);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw SystemError::from_errno("read", kStdin, errno);
    if (got == 0) return text;
    text.append(chunk, static_cast<std::size_t>(got));
  }
}

void write_stdout(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size())
    throw SystemError::from_errno("write", "standard output", errno);
}

void flush_stdout() {
  if (std::fflush(stdout) != 0) throw SystemError::from_errno("write", "standard output", errno);
}

std::string json_array(std::span<const std::int32_t> ids) {
  std::string text = "[";
  for (const std::int32_t id : ids) text += fmt::format("{}{}", text.size() == 1 ? "" : ",", id);
  return text + "]\n";
}

// Before the work, not after it.
void require_folder_of(const std::filesystem::path& out) {
  if (out.has_parent_path() && !std::filesystem::is_directory(out.parent_path()))
    throw UserError(ExitCode::kUsage, {out.string()}, "its folder does not exist: create it first");
}

// ---- train

struct TrainArguments {
  std::vector<std::string> files;
  std::string out, pretokenizer = "llama-3";
  TrainOptions options;
  WordCounterOptions counting;
  bool json = false;
};

TrainOptions checked_train_options(const TrainArguments& arguments) {
  TrainOptions options = arguments.options;
  options.pretokenizer = *pretokenizer_by_name(arguments.pretokenizer);
  std::vector<Problem> problems;
  for (const std::string& problem : validate(options))
    problems.push_back({{.file = "tokenizer train"}, problem});
  if (!problems.empty()) throw UserError(ExitCode::kUsage, problems);
  return options;
}

// JSON Lines and compressed files are read document by document, as `data build` reads them; other files
// whole, so that any bytes will do.
void add_file(WordCounter& counter, const std::string& file) {
  if (!file.ends_with(".jsonl") && !file.ends_with(".zst")) return counter.add_file(file);
  DocumentReader reader(file, {});
  for (Document document; reader.next(document);) counter.add_text(document.text);
}

int train(const TrainArguments& arguments, const CommandRunner& runner) {
  const TrainOptions options = checked_train_options(arguments);
  require_folder_of(arguments.out);
  WordCounterOptions counting = arguments.counting;
  counting.pretokenizer = options.pretokenizer;
  WordCounter counter(counting);
  for (const std::string& file : arguments.files) add_file(counter, file);
  const WordCounts words = counter.take();
  if (!runner.quiet)
    fmt::print(stderr, "{:.1f} MB of text, {} different words: merging up to {} tokens\n",
               static_cast<double>(counter.bytes_added()) / 1e6, words.counts.size(), options.vocab_size);
  const TokenizerParts parts = train_bpe(words, options);
  const std::string text = tokenizer_json(parts);
  const Tokenizer tokenizer = Tokenizer::parse(text, arguments.out);  // what is written can be read
  write_file_atomically(arguments.out, text);

  if (tokenizer.vocab_size() < options.vocab_size)
    fmt::print(stderr,
               "terroir: warning: the text has pairs for {} tokens only, {} were asked for: give more text, "
               "or expect a "
               "smaller vocabulary\n",
               tokenizer.vocab_size(), options.vocab_size);
  if (counter.words_dropped() > 0)
    fmt::print(stderr, "terroir: warning: {} rare words were dropped to stay below --max-words {}\n",
               counter.words_dropped(), counting.max_words);
  if (arguments.json) {
    const OrderedJson report = {{"out", arguments.out},          {"vocab_size", tokenizer.vocab_size()},
                                {"merges", parts.merges.size()}, {"bytes", counter.bytes_added()},
                                {"words", words.counts.size()},  {"words_dropped", counter.words_dropped()},
                                {"sha256", tokenizer.sha256()}};
    write_stdout(report.dump() + "\n");
    flush_stdout();
  } else if (!runner.quiet) {
    fmt::print(stderr, "{}: {} tokens\n", arguments.out, tokenizer.vocab_size());
  }
  return 0;
}

void add_train(CLI::App& parent, CommandRunner& runner) {
  auto arguments = std::make_shared<TrainArguments>();
  CLI::App* command = parent.add_subcommand("train", "Learn a byte-level BPE tokenizer from text files");
  command->footer(
      "A FILE is one text of any bytes; .jsonl holds a document a line, and .txt.zst and .jsonl.zst are\n"
      "compressed. The result does not depend on the number of threads.\n\n"
      "Example:\n  terroir tokenizer train --vocab-size 32000 --pretokenizer llama-3 --out tokenizer.json "
      "ko.txt ar.txt");
  command->add_option("FILE", arguments->files, "Text files")->required();
  command
      ->add_option("--vocab-size", arguments->options.vocab_size,
                   "Tokens in all: special ones, 256 bytes, merges")
      ->required();
  command->add_option("--out", arguments->out, "The tokenizer.json to write")->required();
  command->add_option("--pretokenizer", arguments->pretokenizer, "How text is cut into words")
      ->check(CLI::IsMember({"gpt-2", "llama-3", "qwen2"}))
      ->capture_default_str();
  command
      ->add_option("--min-frequency", arguments->options.min_frequency,
                   "Merge no pair that occurs less often")
      ->capture_default_str();
  command
      ->add_option(
          "--special-token", arguments->options.special_tokens,
          "A special token; repeat for more. Replaces the default ones; <|begin_of_text|>, if given, is put "
          "before each text")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false)
      ->capture_default_str();
  command
      ->add_option("--max-words", arguments->counting.max_words,
                   "Different words kept in memory while counting")
      ->check(CLI::Range(1000U, 1U << 30))
      ->capture_default_str();
  arguments->counting.num_threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  command->add_option("--threads", arguments->counting.num_threads, "Threads that count words")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "Print what was done as JSON");
  command->callback(
      [arguments, &runner] { runner.run = [arguments, &runner] { return train(*arguments, runner); }; });
}

// ---- encode

struct EncodeArguments {
  std::string tokenizer, file, out;
  bool lines = false, special = false;
};

// Calls use(text) for the whole text or, with --lines, each line without its line feed.
template <class Use>
void for_each_text(std::string_view text, bool lines, Use&& use) {
  if (!lines) return use(text);
  while (!text.empty()) {
    const std::size_t newline = std::min(text.find('\n'), text.size());
    use(text.substr(0, newline));
    text.remove_prefix(std::min(newline + 1, text.size()));
  }
}

std::string little_endian(std::span<const std::int32_t> ids) {
  std::string bytes;
  for (const std::int32_t id : ids)
    for (int shift = 0; shift < 32; shift += 8)
      bytes.push_back(static_cast<char>(static_cast<std::uint32_t>(id) >> shift & 0xFF));
  return bytes;
}

int encode(const EncodeArguments& arguments) {
  const Tokenizer tokenizer = Tokenizer::load(arguments.tokenizer);
  const std::string text = arguments.file.empty() ? read_stdin() : read_file(arguments.file);
  const SpecialTokens special = arguments.special ? SpecialTokens::kRecognized : SpecialTokens::kAsText;
  EncoderState state;
  std::vector<std::int32_t> ids;
  require_folder_of(arguments.out);
  std::unique_ptr<AtomicFile> out;
  if (!arguments.out.empty()) out = std::make_unique<AtomicFile>(arguments.out);
  for_each_text(text, arguments.lines, [&](std::string_view part) {
    ids.clear();
    tokenizer.encode(part, special, state, ids);
    if (out) {
      out->write(little_endian(ids));
    } else {
      write_stdout(json_array(ids));
    }
  });
  if (out) out->commit();
  flush_stdout();
  return 0;
}

void add_encode(CLI::App& parent, CommandRunner& runner) {
  auto arguments = std::make_shared<EncodeArguments>();
  CLI::App* command = parent.add_subcommand("encode", "Turn text into token ids");
  command->footer(
      "The whole of FILE (or standard input) is one text; its ids are printed as one JSON array.\n\n"
      "Examples:\n  terroir tokenizer encode --tokenizer tokenizer.json text.txt\n"
      "  terroir tokenizer encode --tokenizer tokenizer.json --lines < text.txt");
  command->add_option("--tokenizer", arguments->tokenizer, "The tokenizer.json")->required();
  command->add_option("FILE", arguments->file, "Text; standard input when left out");
  command->add_option("--out", arguments->out, "Write little-endian 32-bit ids to this file instead");
  command->add_flag("--lines", arguments->lines, "Encode each line on its own, one array a line");
  command->add_flag("--special", arguments->special, "Recognize special tokens inside the text");
  command->callback([arguments, &runner] { runner.run = [arguments] { return encode(*arguments); }; });
}

// ---- decode

int decode(const std::string& tokenizer_path) {
  const Tokenizer tokenizer = Tokenizer::load(tokenizer_path);
  const Json ids = parse_json(read_stdin(), kStdin, ExitCode::kData, {.max_bytes = std::uint64_t{1} << 32});
  if (!ids.is_array()) throw UserError(ExitCode::kData, {kStdin}, "must be a JSON array of token ids");
  std::string text;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const Place place{.file = kStdin, .key = fmt::format("[{}]", i)};
    if (!ids[i].is_number_integer()) throw UserError(ExitCode::kData, place, "must be an integer");
    const auto id = ids[i].get<std::int64_t>();
    if (id < 0 || id >= tokenizer.vocab_size())
      throw UserError(ExitCode::kData, place,
                      fmt::format("token id {} is outside 0..{}", ids[i].dump(), tokenizer.vocab_size() - 1));
    text += tokenizer.token(static_cast<std::int32_t>(id));
  }
  write_stdout(text);
  flush_stdout();
  return 0;
}

void add_decode(CLI::App& parent, CommandRunner& runner) {
  auto tokenizer = std::make_shared<std::string>();
  CLI::App* command = parent.add_subcommand("decode", "Turn token ids back into text");
  command->footer(
      "Reads one JSON array of ids on standard input, writes the bytes on standard output.\n\n"
      "Example:\n  terroir tokenizer decode --tokenizer tokenizer.json < ids.json");
  command->add_option("--tokenizer", *tokenizer, "The tokenizer.json")->required();
  command->callback([tokenizer, &runner] { runner.run = [tokenizer] { return decode(*tokenizer); }; });
}

// ---- report

struct ReportArguments {
  std::string tokenizer;
  std::vector<std::string> files;
  bool json = false;
};

int report(const ReportArguments& arguments) {
  const Tokenizer tokenizer = Tokenizer::load(arguments.tokenizer);
  std::vector<TokenizerReport> rows;
  for (const std::string& file : arguments.files)
    rows.push_back(report_tokenizer(tokenizer, file, read_file(file)));
  write_stdout(arguments.json ? to_json(tokenizer, rows).dump() + "\n" : to_table(rows));
  flush_stdout();
  return 0;
}

void add_report(CLI::App& parent, CommandRunner& runner) {
  auto arguments = std::make_shared<ReportArguments>();
  CLI::App* command = parent.add_subcommand("report", "How well a tokenizer compresses text files");
  command->footer(
      "Words are runs of characters without white space: compare languages that write spaces.\n\n"
      "Example:\n  terroir tokenizer report --tokenizer tokenizer.json ko.txt th.txt");
  command->add_option("--tokenizer", arguments->tokenizer, "The tokenizer.json")->required();
  command->add_option("FILE", arguments->files, "Text files")->required();
  command->add_flag("--json", arguments->json, "Print the figures as JSON");
  command->callback([arguments, &runner] { runner.run = [arguments] { return report(*arguments); }; });
}

}  // namespace

void add_tokenizer_commands(CLI::App& app, CommandRunner& runner) {
  CLI::App* tokenizer = app.add_subcommand("tokenizer", "Train and use byte-level BPE tokenizers");
  tokenizer->require_subcommand(1);
  add_train(*tokenizer, runner);
  add_encode(*tokenizer, runner);
  add_decode(*tokenizer, runner);
  add_report(*tokenizer, runner);
  add_planned_command(*tokenizer, runner, "extend", "add tokens to a trained tokenizer");
}

}  // namespace terroir
