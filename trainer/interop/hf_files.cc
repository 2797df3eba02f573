#include "trainer/interop/hf_files.h"

#include <optional>

#include "data/tokenizer/tokenizer.h"
#include "trainer/interop/hf_config.h"
#include "trainer/interop/model_card.h"

namespace terroir {
namespace {

// As transformers writes JSON: two spaces, sorted keys, a final newline.
std::string pretty(const Json& json) { return json.dump(2) + "\n"; }

struct SpecialToken {
  std::int64_t id;
  std::string text;
};
struct SpecialTokenPair {
  std::optional<SpecialToken> bos, eos;
};

SpecialTokenPair special_tokens_of(const std::string& tokenizer_json, const std::string& name) {
  const Tokenizer tokenizer = Tokenizer::parse(tokenizer_json, name);
  const auto token = [&](std::optional<std::int32_t> id) -> std::optional<SpecialToken> {
    if (!id) return std::nullopt;
    return SpecialToken{*id, std::string(tokenizer.token(*id))};
  };
  return {token(tokenizer.bos_id()), token(tokenizer.eos_id())};
}

Json special_tokens_json(const SpecialTokenPair& tokens) {
  Json json = Json::object();
  if (tokens.bos) json["bos_token"] = tokens.bos->text;
  if (tokens.eos) json["eos_token"] = tokens.eos->text;
  return json;
}

Json tokenizer_config_json(const SpecialTokenPair& tokens, const ModelConfig& model) {
  Json json = special_tokens_json(tokens);
  json["tokenizer_class"] = "PreTrainedTokenizerFast";
  json["clean_up_tokenization_spaces"] = false;
  json["model_max_length"] = model.max_position_embeddings;
  return json;
}

// For a base model: where texts begin and end, nothing about sampling.
Json generation_config_json(const HfConfigFacts& facts) {
  Json json{{"_from_model_config", true}};
  if (facts.bos_token_id) json["bos_token_id"] = *facts.bos_token_id;
  if (facts.eos_token_id) json["eos_token_id"] = *facts.eos_token_id;
  return json;
}

// transformers 5 saves a class name that 4 does not know; both know its older name. As text: the file may
// hold numbers beyond 64 bits (the model_max_length of tokenizers without one), which must stay as they are.
std::string with_tokenizer_class_of_both(std::string config) {
  constexpr std::string_view kNew = "\"TokenizersBackend\"";
  if (const std::size_t at = config.find(kNew); at != std::string::npos)
    config.replace(at, kNew.size(), "\"PreTrainedTokenizerFast\"");
  return config;
}

}  // namespace

std::map<std::string, std::string> hf_small_files(const CheckpointReader& checkpoint,
                                                  const std::string& dtype) {
  const CheckpointMeta& meta = checkpoint.manifest().meta;
  std::map<std::string, std::string> files;
  for (const char* name : kKeptFiles)
    if (auto text = checkpoint.read_file(std::string(kKeptFolder) + name)) files[name] = std::move(*text);

  if (const auto found = files.find("tokenizer_config.json"); found != files.end())
    found->second = with_tokenizer_class_of_both(std::move(found->second));
  HfConfigFacts facts{dtype, {}, {}};
  if (auto tokenizer = checkpoint.read_file("tokenizer.json")) {
    // An imported tokenizer may be of a kind that only other programs read; its own files say all they need.
    if (!files.contains("tokenizer_config.json")) {
      const SpecialTokenPair tokens =
          special_tokens_of(*tokenizer, (checkpoint.path() / "tokenizer.json").string());
      if (tokens.bos) facts.bos_token_id = tokens.bos->id;
      if (tokens.eos) facts.eos_token_id = tokens.eos->id;
      files["tokenizer_config.json"] = pretty(tokenizer_config_json(tokens, meta.model));
      files["special_tokens_map.json"] = pretty(special_tokens_json(tokens));
    }
    files["tokenizer.json"] = std::move(*tokenizer);
  }
  const Json base = files.contains("config.json")
                        ? parse_json(files["config.json"], "hf/config.json", ExitCode::kCheckpoint)
                        : Json::object();
  files["config.json"] = pretty(hf_config_of(meta.model, facts, base));
  files.try_emplace("generation_config.json", pretty(generation_config_json(facts)));
  files["README.md"] = model_card(meta, num_parameters(hf_tensors(meta.model)));
  return files;
}

}  // namespace terroir
