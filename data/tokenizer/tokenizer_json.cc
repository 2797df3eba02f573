#include "data/tokenizer/tokenizer_json.h"

#include <limits>
#include <unordered_map>

#include "base/json.h"
#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/json_node.h"

namespace terroir {
namespace {

constexpr JsonLimits kLimits{.max_bytes = std::uint64_t{64} << 20, .max_depth = 64};
constexpr std::size_t kMaxTokenBytes = std::numeric_limits<std::uint16_t>::max();

// Normalizers, pre-tokenizers and post-processors are one object or a Sequence of them under `list_name`.
std::vector<JsonNode> flatten(const JsonNode& node, const char* list_name) {
  if (node.is_null()) return {};
  if (node.at("type").string() != "Sequence") return {node};
  std::vector<JsonNode> nodes;
  const JsonNode list = node.at(list_name);
  for (std::size_t i = 0; i < list.array_size(); ++i) nodes.push_back(list.item(i));
  return nodes;
}

bool read_nfc(const JsonNode& root) {
  const JsonNode node = root.get("normalizer");
  const std::vector<JsonNode> steps = flatten(node, "normalizers");
  for (const JsonNode& step : steps)
    if (step.at("type").string() != "NFC")
      step.fail(fmt::format("normalizer \"{}\" is not supported; null and NFC are",
                            shortened(step.at("type").string())));
  return !steps.empty();
}

Pretokenizer read_split(const JsonNode& split) {
  const JsonNode regex = split.at("pattern").at("Regex");
  const std::optional<Pretokenizer> known = pretokenizer_by_regex(regex.string());
  if (!known)
    regex.fail("this regular expression is not supported; those of the pre-tokenizers " +
               pretokenizer_names() + " are");
  if (split.at("behavior").string() != "Isolated" || split.get("invert").boolean(false))
    split.fail("only \"behavior\": \"Isolated\", \"invert\": false is supported");
  return *known;
}

// ByteLevel alone is GPT-2's; newer files split first and let ByteLevel only map bytes.
Pretokenizer read_pretokenizer(const JsonNode& root) {
  const JsonNode node = root.get("pre_tokenizer");
  const std::vector<JsonNode> steps = flatten(node, "pretokenizers");
  if (steps.empty() || steps.back().at("type").string() != "ByteLevel")
    node.fail(
        "must be ByteLevel, or a Sequence of Split and ByteLevel: only byte-level tokenizers are supported");
  const JsonNode& byte_level = steps.back();
  if (byte_level.get("add_prefix_space").boolean(true))
    byte_level.fail("\"add_prefix_space\": true is not supported");
  const bool uses_gpt2_regex = byte_level.get("use_regex").boolean(true);
  if (steps.size() == 1 && uses_gpt2_regex) return Pretokenizer::kGpt2;
  if (steps.size() != 2 || uses_gpt2_regex || steps[0].at("type").string() != "Split")
    node.fail(
        "must be ByteLevel, or one Split followed by ByteLevel with \"use_regex\": false; pre-tokenizers "
        "known: " +
        pretokenizer_names());
  return read_split(steps[0]);
}

std::vector<AddedToken> read_added_tokens(const JsonNode& root) {
  std::vector<AddedToken> tokens;
  const JsonNode list = root.get("added_tokens");
  if (list.is_null()) return tokens;
  const JsonNode vocabulary = root.at("model").at("vocab");
  const std::size_t most_ids = vocabulary.json().size() + list.array_size();
  for (std::size_t i = 0; i < list.array_size(); ++i) {
    const JsonNode node = list.item(i);
    for (const char* name : {"single_word", "lstrip", "rstrip"})
      if (node.get(name).boolean(false)) node.get(name).fail("true is not supported");
    AddedToken token{node.at("id").id(most_ids), node.at("content").string(),
                     node.get("special").boolean(false), node.get("normalized").boolean(true)};
    if (token.content.empty()) node.at("content").fail("is empty");
    if (token.content.size() > kMaxTokenBytes) node.at("content").fail("is longer than 65535 bytes");
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// Checks what the reader assumes of the model besides its vocabulary and merges.
void check_model(const JsonNode& model) {
  // Files older than the "type" key have none.
  if (const JsonNode type = model.get("type"); !type.is_null() && type.string() != "BPE")
    type.fail(fmt::format("model type \"{}\" is not supported; BPE is", shortened(type.string())));
  if (const JsonNode dropout = model.get("dropout"); !dropout.is_null() && dropout.json() != 0)
    dropout.fail("merge dropout is not supported");
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (const JsonNode affix = model.get(name); !affix.is_null() && !affix.string().empty())
      affix.fail("is not supported: a byte-level vocabulary has none");
  if (model.get("byte_fallback").boolean(false)) model.at("byte_fallback").fail("true is not supported");
}

// Text of a token in the file -> id. The texts belong to the parsed JSON.
using IdByText = std::unordered_map<std::string_view, std::int32_t>;

IdByText index_added_tokens(const JsonNode& root, const std::vector<AddedToken>& added_tokens) {
  IdByText ids;
  for (std::size_t i = 0; i < added_tokens.size(); ++i)
    if (!ids.emplace(added_tokens[i].content, added_tokens[i].id).second)
      root.at("added_tokens")
          .item(i)
          .at("content")
          .fail(fmt::format("\"{}\" is listed twice", shortened(added_tokens[i].content)));
  return ids;
}

// Fills parts.tokens. REQUIRES: parts.tokens has as many elements as there are ids.
IdByText read_vocabulary(const JsonNode& vocabulary, const IdByText& added, TokenizerParts& parts) {
  IdByText ids;
  ids.reserve(parts.tokens.size());
  std::vector<bool> seen(parts.tokens.size(), false);
  for (auto entry = vocabulary.json().begin(); entry != vocabulary.json().end(); ++entry) {
    const std::string& text = entry.key();
    const JsonNode node = vocabulary.at(text);
    const std::int32_t id = node.id(seen.size());
    if (seen[static_cast<std::size_t>(id)]) node.fail(fmt::format("id {} is used twice", id));
    seen[static_cast<std::size_t>(id)] = true;
    ids.emplace(text, id);

    const auto as_added = added.find(text);
    if (as_added != added.end() && as_added->second != id)
      node.fail(fmt::format("has id {} here and {} in added_tokens", id, as_added->second));
    std::optional<std::string> bytes = printable_to_bytes(text);
    if (!bytes && as_added == added.end())
      node.fail("has a character that stands for no byte: the vocabulary is not a byte-level one");
    if (bytes && as_added != added.end() && *bytes != text)
      node.fail("is an added token, but its characters stand for other bytes in the vocabulary");
    if (bytes && (bytes->empty() || bytes->size() > kMaxTokenBytes)) node.fail("must have 1 to 65535 bytes");
    if (bytes) parts.tokens[static_cast<std::size_t>(id)] = std::move(*bytes);
  }
  for (std::size_t i = 0; i < 256; ++i) {
    const std::string printable = bytes_to_printable(std::string(1, static_cast<char>(i)));
    if (!ids.contains(printable))
      vocabulary.fail(fmt::format("has no token \"{}\" for byte {}", printable, i));
  }
  return ids;
}

// Added tokens outside the vocabulary must take exactly the ids that it leaves.
void check_added_ids(const JsonNode& root, const TokenizerParts& parts, const IdByText& vocabulary) {
  std::vector<bool> taken(parts.tokens.size(), false);
  for (const auto& [text, id] : vocabulary) taken[static_cast<std::size_t>(id)] = true;
  for (std::size_t i = 0; i < parts.added_tokens.size(); ++i) {
    const AddedToken& token = parts.added_tokens[i];
    if (vocabulary.contains(token.content)) continue;
    root.at("added_tokens").item(i).at("id").id(taken.size());
    if (taken[static_cast<std::size_t>(token.id)])
      root.at("added_tokens").item(i).at("id").fail(fmt::format("id {} is used twice", token.id));
    taken[static_cast<std::size_t>(token.id)] = true;
  }
}

// "a b" or ["a", "b"].
std::pair<std::string, std::string> read_merge_parts(const JsonNode& merge) {
  if (merge.json().is_array()) {
    if (merge.array_size() != 2) merge.fail("must have two parts");
    return {merge.item(0).string(), merge.item(1).string()};
  }
  const std::string& text = merge.string();
  const std::size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
    merge.fail("must be two tokens with one space between them");
  return {text.substr(0, space), text.substr(space + 1)};
}

void read_merges(const JsonNode& merges, const IdByText& vocabulary, TokenizerParts& parts) {
  parts.merges.reserve(merges.array_size());
  for (std::size_t i = 0; i < merges.array_size(); ++i) {
    const JsonNode merge = merges.item(i);
    const auto [left, right] = read_merge_parts(merge);
    const auto id = [&](const std::string& text) {
      const auto found = vocabulary.find(text);
      if (found == vocabulary.end())
        merge.fail(fmt::format("token \"{}\" is not in model.vocab", shortened(text)));
      if (parts.tokens[static_cast<std::size_t>(found->second)].empty())
        merge.fail(fmt::format("token \"{}\" is not made of bytes", shortened(text)));
      return found->second;
    };
    parts.merges.push_back({id(left), id(right), id(left + right)});
  }
}

// The id of the template's special token `piece`.
std::int32_t read_template_id(const JsonNode& post_processor, const JsonNode& piece,
                              const TokenizerParts& parts) {
  const std::string& name = piece.at("SpecialToken").at("id").string();
  const JsonNode ids = post_processor.at("special_tokens").at(name).at("ids");
  if (ids.array_size() != 1) ids.fail("must be one id");
  const std::int32_t id = ids.item(0).id(parts.tokens.size());
  for (const AddedToken& token : parts.added_tokens)
    if (token.id == id) return id;
  ids.fail(fmt::format("id {} is not among added_tokens", id));
}

void read_template(const JsonNode& post_processor, TokenizerParts& parts) {
  const JsonNode pieces = post_processor.at("single");
  bool after_text = false;
  for (std::size_t i = 0; i < pieces.array_size(); ++i) {
    const JsonNode piece = pieces.item(i);
    if (piece.has("Sequence")) {
      after_text = true;
      continue;
    }
    std::optional<std::int32_t>& token = after_text ? parts.end_token : parts.begin_token;
    if (token) piece.fail("more than one token on one side of the text is not supported");
    token = read_template_id(post_processor, piece, parts);
  }
}

void read_post_processor(const JsonNode& root, TokenizerParts& parts) {
  for (const JsonNode& step : flatten(root.get("post_processor"), "processors")) {
    const std::string& type = step.at("type").string();
    if (type == "TemplateProcessing") {
      read_template(step, parts);
    } else if (type != "ByteLevel") {  // ByteLevel only moves offsets
      step.fail(fmt::format("post-processor \"{}\" is not supported; ByteLevel and TemplateProcessing are",
                            shortened(type)));
    }
  }
}

void check_decoder(const JsonNode& root) {
  for (const JsonNode& step : flatten(root.get("decoder"), "decoders"))
    if (step.at("type").string() != "ByteLevel")
      step.fail(
          fmt::format("decoder \"{}\" is not supported; ByteLevel is", shortened(step.at("type").string())));
}

}  // namespace

TokenizerParts parse_tokenizer_json(std::string_view text, const std::string& file) {
  const Json json = parse_json(text, file, ExitCode::kData, kLimits);
  const JsonNode root(json, Place{file});
  const JsonNode model = root.at("model");
  check_model(model);
  const JsonNode vocabulary = model.at("vocab");
  if (!vocabulary.json().is_object()) vocabulary.fail("must be an object");

  TokenizerParts parts;
  parts.nfc = read_nfc(root);
  parts.pretokenizer = read_pretokenizer(root);
  parts.ignore_merges = model.get("ignore_merges").boolean(false);
  parts.added_tokens = read_added_tokens(root);
  const IdByText added = index_added_tokens(root, parts.added_tokens);
  std::size_t num_ids = vocabulary.json().size();
  for (const AddedToken& token : parts.added_tokens)
    num_ids += vocabulary.json().contains(token.content) ? 0 : 1;
  parts.tokens.resize(num_ids);
  const IdByText ids = read_vocabulary(vocabulary, added, parts);
  check_added_ids(root, parts, ids);
  read_merges(model.at("merges"), ids, parts);
  read_post_processor(root, parts);
  check_decoder(root);
  return parts;
}

}  // namespace terroir
