#include "trainer/interop/model_card.h"

#include <vector>

namespace terroir {
namespace {

std::vector<std::string> list_of(const Json& extra, const char* name) {
  std::vector<std::string> items;
  if (!extra.contains(name) || !extra[name].is_array()) return items;
  for (const Json& item : extra[name])
    if (item.is_string()) items.push_back(item.get<std::string>());
  return items;
}

std::string joined(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : ", ") + item;
  return text;
}

std::string front_matter(const std::vector<std::string>& languages) {
  std::string text = "---\nlibrary_name: transformers\npipeline_tag: text-generation\n";
  if (!languages.empty()) text += "language:\n";
  for (const std::string& language : languages) text += fmt::format("- {}\n", Json(language).dump());
  return text + "---\n";
}

std::string fact(const char* name, const std::string& value) {
  return fmt::format("| {} | {} |\n", name, value);
}

}  // namespace

std::string model_card(const CheckpointMeta& meta, std::int64_t num_parameters) {
  const ModelConfig& model = meta.model;
  const std::vector<std::string> languages = list_of(meta.extra, "languages"),
                                 licenses = list_of(meta.extra, "licenses");
  const std::string name = meta.extra.contains("name") && meta.extra["name"].is_string()
                               ? meta.extra["name"].get<std::string>()
                               : model.model_type + " model";
  std::string text = front_matter(languages);
  text += fmt::format(
      "\n# {}\n\nA base language model in Hugging Face format, written by terroir.\n\n| | |\n|---|---|\n",
      name);
  text += fact("Architecture", model.model_type);
  text += fact("Parameters", fmt::format("{}", num_parameters));
  text += fact("Layers, hidden size, heads (key/value heads)",
               fmt::format("{}, {}, {} ({})", model.num_hidden_layers, model.hidden_size,
                           model.num_attention_heads, model.num_key_value_heads));
  text += fact("Vocabulary", fmt::format("{}", model.vocab_size));
  text += fact("Context", fmt::format("{} tokens", model.max_position_embeddings));
  if (meta.step > 0) text += fact("Optimizer steps", fmt::format("{}", meta.step));
  if (!languages.empty()) text += fact("Languages", joined(languages));
  if (!licenses.empty()) text += fact("Licences of the training text", joined(licenses));
  if (!meta.tokenizer_sha256.empty()) text += fact("SHA-256 of tokenizer.json", meta.tokenizer_sha256);
  return text;
}

}  // namespace terroir
