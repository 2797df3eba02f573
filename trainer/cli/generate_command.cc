// terroir generate
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "trainer/cli/command.h"
#include "trainer/eval/language_model.h"
#include "trainer/eval/sampler.h"
#include "trainer/step/device_choice.h"

namespace terroir {
namespace {

struct Arguments {
  std::string checkpoint, prompt;
  std::int64_t max_new_tokens = 100;
  SamplingOptions sampling{.temperature = 0.8, .top_p = 0.95, .seed = 0};
  bool json = false;
  std::string device = "auto";
  int threads = 0;
};

int run(const Arguments& arguments) {
  LanguageModel model(arguments.checkpoint, arguments.threads, choose_device(arguments.device));
  const Tokenizer& tokenizer = model.tokenizer();
  std::vector<std::int32_t> prompt;
  if (tokenizer.bos_id()) prompt.push_back(*tokenizer.bos_id());
  for (const std::int32_t id : tokenizer.encode(arguments.prompt)) prompt.push_back(id);
  if (prompt.empty())
    throw UserError(ExitCode::kUsage, Place{},
                    "--prompt is empty and the tokenizer has no beginning-of-document token");

  model.start(static_cast<std::int64_t>(prompt.size()) + arguments.max_new_tokens);
  Sampler sampler(arguments.sampling);
  StreamDecoder decoder(tokenizer);
  std::string text;
  const auto emit = [&](const std::string& piece) {
    text += piece;
    if (arguments.json) return;
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  };
  if (!arguments.json) std::fwrite(arguments.prompt.data(), 1, arguments.prompt.size(), stdout);
  std::vector<std::int32_t> ids;
  bool ended = false;
  std::span<const float> logits = model.append(prompt);
  while (static_cast<std::int64_t>(ids.size()) < arguments.max_new_tokens) {
    const std::int32_t id = sampler.next(
        logits.first(std::min<std::size_t>(logits.size(), static_cast<std::size_t>(tokenizer.vocab_size()))));
    ended = id == tokenizer.eos_id();
    if (ended) break;
    ids.push_back(id);
    emit(decoder.push(id));
    if (static_cast<std::int64_t>(ids.size()) < arguments.max_new_tokens) logits = model.append({&id, 1});
  }
  emit(decoder.finish());
  if (arguments.json) {
    const OrderedJson result{{"prompt", arguments.prompt},
                             {"text", text},
                             {"ids", ids},
                             {"finish_reason", ended ? "stop" : "length"}};
    // A model may put out bytes that are no UTF-8; JSON may not.
    fmt::print("{}\n", result.dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
  } else {
    fmt::print("\n");
  }
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace

void add_generate_command(CLI::App& app, CommandRunner& runner) {
  CLI::App* command = app.add_subcommand("generate", "Continue a prompt");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("--checkpoint", arguments->checkpoint, "A step-* folder, or a run folder")->required();
  command->add_option("--prompt", arguments->prompt, "Text to continue")->required();
  command->add_option("--max-new-tokens", arguments->max_new_tokens, "Stop after this many tokens")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--temperature", arguments->sampling.temperature, "0: always the most likely token")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--top-p", arguments->sampling.top_p,
                   "Sample from the likeliest tokens with this probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--seed", arguments->sampling.seed, "Same seed, same text")->capture_default_str();
  command->add_flag("--json", arguments->json, "One JSON object: prompt, text, ids, finish_reason");
  command->add_option("--device", arguments->device, "auto (a GPU if there is one), cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "Default: all this process may use")
      ->check(CLI::NonNegativeNumber);
  command->footer(
      "Example:\n  terroir generate --checkpoint runs/quickstart --prompt 'Magandang umaga' --temperature "
      "0.7");
  command->callback([arguments, &runner] { runner.run = [arguments] { return run(*arguments); }; });
}

}  // namespace terroir
