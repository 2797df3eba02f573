#include "base/error.h"
#include "base/json.h"
#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/tokenizer_json.h"

namespace terroir {
namespace {

std::string json_string(const std::string& text) { return Json(text).dump(); }

std::string text_of(const TokenizerParts& parts, std::int32_t id) {
  return bytes_to_printable(parts.tokens[static_cast<std::size_t>(id)]);
}

OrderedJson added_tokens_json(const TokenizerParts& parts) {
  OrderedJson list = OrderedJson::array();
  for (const AddedToken& token : parts.added_tokens)
    list.push_back({{"id", token.id},
                    {"content", token.content},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", token.normalized},
                    {"special", token.special}});
  return list;
}

OrderedJson byte_level_json(bool use_regex) {
  return {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

OrderedJson pretokenizer_json(Pretokenizer pretokenizer) {
  if (pretokenizer == Pretokenizer::kGpt2) return byte_level_json(/*use_regex=*/true);
  const OrderedJson split = {{"type", "Split"},
                             {"pattern", {{"Regex", std::string(pretokenizer_regex(pretokenizer))}}},
                             {"behavior", "Isolated"},
                             {"invert", false}};
  return {{"type", "Sequence"},
          {"pretokenizers", OrderedJson::array({split, byte_level_json(/*use_regex=*/false)})}};
}

// [begin] A [end] for one text, the same around each of two.
OrderedJson post_processor_json(const TokenizerParts& parts) {
  if (!parts.begin_token && !parts.end_token) return byte_level_json(/*use_regex=*/true);
  OrderedJson special_tokens = OrderedJson::object();
  const auto special = [&](std::int32_t id, int type_id) -> OrderedJson {
    const std::string& content = parts.tokens[static_cast<std::size_t>(id)];
    special_tokens[content] = {
        {"id", content}, {"ids", OrderedJson::array({id})}, {"tokens", OrderedJson::array({content})}};
    return {{"SpecialToken", {{"id", content}, {"type_id", type_id}}}};
  };
  OrderedJson single = OrderedJson::array(), pair = OrderedJson::array();
  for (const int type_id : {0, 1}) {
    OrderedJson pieces = OrderedJson::array();
    if (parts.begin_token) pieces.push_back(special(*parts.begin_token, type_id));
    pieces.push_back({{"Sequence", {{"id", type_id == 0 ? "A" : "B"}, {"type_id", type_id}}}});
    if (parts.end_token) pieces.push_back(special(*parts.end_token, type_id));
    for (const OrderedJson& piece : pieces) pair.push_back(piece);
    if (type_id == 0) single = pieces;
  }
  return {
      {"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special_tokens}};
}

// By hand: the library's ordered object looks through all keys at each insertion.
std::string model_json(const TokenizerParts& parts) {
  std::string text = fmt::format(
      "{{\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
      "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n    \"fuse_unk\": "
      "false,\n"
      "    \"byte_fallback\": false,\n    \"ignore_merges\": {},\n    \"vocab\": {{",
      parts.ignore_merges);
  std::vector<std::string> texts;
  for (std::int32_t id = 0; id < static_cast<std::int32_t>(parts.tokens.size()); ++id)
    texts.push_back(text_of(parts, id));
  for (const AddedToken& token : parts.added_tokens)
    texts[static_cast<std::size_t>(token.id)] = token.content;
  for (std::size_t id = 0; id < texts.size(); ++id)
    text += fmt::format("{}\n      {}: {}", id == 0 ? "" : ",", json_string(texts[id]), id);
  text += "\n    },\n    \"merges\": [";
  for (std::size_t rank = 0; rank < parts.merges.size(); ++rank) {
    const auto& [left, right, result] = parts.merges[rank];
    text += fmt::format("{}\n      {}", rank == 0 ? "" : ",",
                        json_string(text_of(parts, left) + " " + text_of(parts, right)));
  }
  return text + (parts.merges.empty() ? "]\n  }" : "\n    ]\n  }");
}

std::string member(const char* name, const OrderedJson& value) {
  std::string text = value.dump(2);
  for (std::size_t newline = text.find('\n'); newline != std::string::npos;
       newline = text.find('\n', newline + 1))
    text.insert(newline + 1, "  ");
  return fmt::format("  \"{}\": {},\n", name, text);
}

}  // namespace

std::string tokenizer_json(const TokenizerParts& parts) {
  return "{\n" + member("version", "1.0") + member("truncation", nullptr) + member("padding", nullptr) +
         member("added_tokens", added_tokens_json(parts)) +
         member("normalizer", parts.nfc ? OrderedJson{{"type", "NFC"}} : OrderedJson(nullptr)) +
         member("pre_tokenizer", pretokenizer_json(parts.pretokenizer)) +
         member("post_processor", post_processor_json(parts)) +
         member("decoder", byte_level_json(/*use_regex=*/true)) + "  \"model\": " + model_json(parts) +
         "\n}\n";
}

}  // namespace terroir
