// terroir eval
#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <numbers>
#include <numeric>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/corpus/document_reader.h"
#include "trainer/cli/command.h"
#include "trainer/eval/language_model.h"
#include "trainer/step/device_choice.h"

namespace terroir {
namespace {

struct Arguments {
  std::string checkpoint, text;
  bool json = false, per_token = false;
  std::string device = "auto";
  int threads = 0;
};

struct Totals {
  std::int64_t tokens = 0, bytes = 0;
  double nll_sum = 0;
  std::vector<float> per_token;
};

// One document: the beginning-of-document token first, where the tokenizer has one.
void evaluate(LanguageModel& model, std::string_view text, bool per_token, Totals& totals) {
  const Tokenizer& tokenizer = model.tokenizer();
  std::vector<std::int32_t> ids;
  if (tokenizer.bos_id()) ids.push_back(*tokenizer.bos_id());
  const std::vector<std::int32_t> encoded = tokenizer.encode(text);
  ids.insert(ids.end(), encoded.begin(), encoded.end());
  const std::vector<float> losses = model.negative_log_likelihoods(ids);
  totals.tokens += static_cast<std::int64_t>(losses.size());
  totals.nll_sum = std::accumulate(losses.begin(), losses.end(), totals.nll_sum);
  for (std::size_t i = 1; i < ids.size(); ++i)
    totals.bytes += tokenizer.token_bytes()[static_cast<std::size_t>(ids[i])];
  if (per_token) totals.per_token.insert(totals.per_token.end(), losses.begin(), losses.end());
}

int run(const Arguments& arguments) {
  LanguageModel model(arguments.checkpoint, arguments.threads, choose_device(arguments.device));
  Totals totals;
  DocumentReader reader(arguments.text, {.any_name_is_text = true});
  for (Document document; reader.next(document);) evaluate(model, document.text, arguments.per_token, totals);
  if (totals.tokens == 0)
    throw UserError(ExitCode::kData, Place{arguments.text},
                    "holds no text to evaluate: one document a line is expected");
  const double bits_per_byte = totals.nll_sum / std::numbers::ln2 / static_cast<double>(totals.bytes);
  if (arguments.json) {
    OrderedJson result{{"tokens", totals.tokens},
                       {"bytes", totals.bytes},
                       {"nll_sum", totals.nll_sum},
                       {"bits_per_byte", bits_per_byte}};
    if (arguments.per_token) result["per_token"] = totals.per_token;
    fmt::print("{}\n", result.dump());
  } else {
    fmt::print("{} tokens, {} bytes: {:.4f} nats/token, {:.4f} bits/byte\n", totals.tokens, totals.bytes,
               totals.nll_sum / static_cast<double>(totals.tokens), bits_per_byte);
    if (arguments.per_token)
      for (const float nll : totals.per_token) fmt::print("{}\n", nll);
  }
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace

void add_eval_command(CLI::App& app, CommandRunner& runner) {
  CLI::App* command = app.add_subcommand("eval", "Bits per byte of a model on a text");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("--checkpoint", arguments->checkpoint, "A step-* folder, or a run folder")->required();
  command->add_option("--text", arguments->text, "UTF-8 text, one document a line; - for stdin")->required();
  command->add_flag("--json", arguments->json,
                    "One JSON object: tokens, bytes, nll_sum (nats), bits_per_byte");
  command->add_flag("--per-token", arguments->per_token,
                    "Also each token's negative log-likelihood, in nats");
  command->add_option("--device", arguments->device, "auto (a GPU if there is one), cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "Default: all this process may use")
      ->check(CLI::NonNegativeNumber);
  command->footer("Example:\n  terroir eval --checkpoint runs/quickstart --text data/samples/ko.txt --json");
  command->callback([arguments, &runner] { runner.run = [arguments] { return run(*arguments); }; });
}

}  // namespace terroir
