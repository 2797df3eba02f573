#include "data/tokenizer/tokenizer.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "data/tokenizer/added_token_matcher.h"
#include "data/tokenizer/nfc.h"
#include "data/tokenizer/tokenizer_json.h"

namespace terroir {
namespace {

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{64} << 20;
// Longer words are rare, and would fill the cache with what does not come again.
constexpr std::size_t kMaxCachedWordBytes = 64;
constexpr std::uint32_t kMaxCachedWords = 1 << 17;

constexpr std::string_view kEndTokenNames[] = {"<|end_of_text|>", "<|endoftext|>", "</s>", "<eos>"};

std::size_t index_of(SpecialTokens special) { return special == SpecialTokens::kRecognized ? 1 : 0; }

}  // namespace

struct Tokenizer::Model {
  Model(TokenizerParts read_parts, std::string json_text);

  TokenizerParts parts;
  std::string json, sha256;
  MergeTable merges;
  std::array<std::int32_t, 256> byte_ids{};
  std::unordered_map<std::string_view, std::int32_t> id_by_bytes;  // filled if parts.ignore_merges
  // Contents in parts.added_tokens; the matchers are indexed by index_of(SpecialTokens).
  std::unordered_map<std::string_view, const AddedToken*> added;
  std::array<AddedTokenMatcher, 2> raw_matchers, normalized_matchers;
  std::vector<bool> special;
  std::vector<std::uint16_t> token_bytes;

 private:
  void index_vocabulary();
  void index_added_tokens();
};

Tokenizer::Model::Model(TokenizerParts read_parts, std::string json_text)
    : parts(std::move(read_parts)),
      json(std::move(json_text)),
      sha256(sha256_hex(json)),
      merges(parts.merges.size()),
      special(parts.tokens.size(), false) {
  for (std::size_t rank = 0; rank < parts.merges.size(); ++rank) {
    const TokenizerParts::Merge& merge = parts.merges[rank];
    merges.insert(merge.left, merge.right, {static_cast<std::int32_t>(rank), merge.result});
  }
  index_vocabulary();
  index_added_tokens();
  if (!parts.end_token)
    for (const std::string_view name : kEndTokenNames)
      if (!parts.end_token && added.contains(name)) parts.end_token = added.at(name)->id;
}

void Tokenizer::Model::index_vocabulary() {
  for (std::size_t id = 0; id < parts.tokens.size(); ++id) {
    const std::string& token = parts.tokens[id];
    if (token.size() == 1) byte_ids[static_cast<unsigned char>(token[0])] = static_cast<std::int32_t>(id);
    if (parts.ignore_merges && !token.empty()) id_by_bytes.emplace(token, static_cast<std::int32_t>(id));
  }
}

void Tokenizer::Model::index_added_tokens() {
  for (const AddedToken& token : parts.added_tokens) {
    const auto id = static_cast<std::size_t>(token.id);
    if (parts.tokens[id].empty()) parts.tokens[id] = token.content;
    special[id] = token.special;
    added.emplace(token.content, &token);
    const std::string content = token.normalized && parts.nfc ? to_nfc(token.content) : token.content;
    auto& matchers = token.normalized ? normalized_matchers : raw_matchers;
    matchers[index_of(SpecialTokens::kRecognized)].add(content, token.id);
    if (!token.special) matchers[index_of(SpecialTokens::kAsText)].add(content, token.id);
  }
  for (std::size_t id = 0; id < parts.tokens.size(); ++id)
    token_bytes.push_back(special[id] ? 0 : static_cast<std::uint16_t>(parts.tokens[id].size()));
}

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  return parse(read_file(path, ExitCode::kUsage, kMaxFileBytes), path.string());
}

Tokenizer Tokenizer::parse(std::string text, const std::string& name) {
  TokenizerParts parts = parse_tokenizer_json(text, name);
  return Tokenizer(std::make_shared<const Model>(std::move(parts), std::move(text)));
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, SpecialTokens special) const {
  EncoderState state;
  std::vector<std::int32_t> ids;
  encode(text, special, state, ids);
  return ids;
}

void Tokenizer::encode(std::string_view text, SpecialTokens special, EncoderState& state,
                       std::vector<std::int32_t>& ids) const {
  if (state.owner_ != model_) {
    state = EncoderState();
    state.owner_ = model_;
  }
  const AddedTokenMatcher& matcher = model_->raw_matchers[index_of(special)];
  std::size_t done = 0;
  while (const auto match = matcher.find(text, done)) {
    encode_normalized(text.substr(done, match->begin - done), special, state, ids);
    ids.push_back(match->id);
    done = match->begin + match->length;
  }
  encode_normalized(text.substr(done), special, state, ids);
}

void Tokenizer::encode_normalized(std::string_view text, SpecialTokens special, EncoderState& state,
                                  std::vector<std::int32_t>& ids) const {
  std::string normalized;
  if (model_->parts.nfc) {
    normalized = to_nfc(text);
    text = normalized;
  }
  const AddedTokenMatcher& matcher = model_->normalized_matchers[index_of(special)];
  std::size_t done = 0;
  while (const auto match = matcher.find(text, done)) {
    encode_words(text.substr(done, match->begin - done), state, ids);
    ids.push_back(match->id);
    done = match->begin + match->length;
  }
  encode_words(text.substr(done), state, ids);
}

void Tokenizer::encode_words(std::string_view text, EncoderState& state,
                             std::vector<std::int32_t>& ids) const {
  WordSplitter words(model_->parts.pretokenizer, text);
  while (!words.done()) {
    const std::string_view word = words.next();
    if (word.size() == 1) {
      ids.push_back(model_->byte_ids[static_cast<unsigned char>(word[0])]);
      continue;
    }
    if (const std::optional<std::uint32_t> known = state.words_.find(word)) {
      const std::uint32_t begin = *known == 0 ? 0 : state.ends_[*known - 1];
      ids.insert(ids.end(), state.ids_.begin() + begin, state.ids_.begin() + state.ends_[*known]);
      continue;
    }
    const std::span<const std::int32_t> merged = merge_word(word, state);
    ids.insert(ids.end(), merged.begin(), merged.end());
    if (word.size() > kMaxCachedWordBytes) continue;
    if (state.words_.size() == kMaxCachedWords) {
      state.words_.clear();
      state.ends_.clear();
      state.ids_.clear();
    }
    state.words_.intern(word);
    state.ids_.insert(state.ids_.end(), merged.begin(), merged.end());
    state.ends_.push_back(static_cast<std::uint32_t>(state.ids_.size()));
  }
}

std::span<const std::int32_t> Tokenizer::merge_word(std::string_view word, EncoderState& state) const {
  state.symbols_.clear();
  if (model_->parts.ignore_merges) {
    const auto found = model_->id_by_bytes.find(word);
    if (found != model_->id_by_bytes.end()) {
      state.symbols_.push_back(found->second);
      return state.symbols_;
    }
  }
  for (const char c : word) state.symbols_.push_back(model_->byte_ids[static_cast<unsigned char>(c)]);
  return std::span(state.symbols_).first(state.merger_.merge(model_->merges, state.symbols_));
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) text += token(id);
  return text;
}

std::string_view Tokenizer::token(std::int32_t id) const {
  TERROIR_CHECK(id >= 0 && id < vocab_size(), "token id {} of {}", id, vocab_size());
  return model_->parts.tokens[static_cast<std::size_t>(id)];
}

std::int32_t Tokenizer::vocab_size() const { return static_cast<std::int32_t>(model_->parts.tokens.size()); }
std::span<const std::uint16_t> Tokenizer::token_bytes() const { return model_->token_bytes; }
bool Tokenizer::is_special(std::int32_t id) const {
  TERROIR_CHECK(id >= 0 && id < vocab_size(), "token id {} of {}", id, vocab_size());
  return model_->special[static_cast<std::size_t>(id)];
}
std::optional<std::int32_t> Tokenizer::added_token_id(std::string_view content) const {
  const auto found = model_->added.find(content);
  if (found == model_->added.end()) return std::nullopt;
  return found->second->id;
}
std::optional<std::int32_t> Tokenizer::bos_id() const { return model_->parts.begin_token; }
std::optional<std::int32_t> Tokenizer::eos_id() const { return model_->parts.end_token; }
Pretokenizer Tokenizer::pretokenizer() const { return model_->parts.pretokenizer; }
const std::string& Tokenizer::json() const { return model_->json; }
const std::string& Tokenizer::sha256() const { return model_->sha256; }

std::string StreamDecoder::push(std::int32_t id) {
  pending_ += tokenizer_.token(id);
  const std::size_t complete = pending_.size() - incomplete_utf8_suffix(pending_);
  std::string text = pending_.substr(0, complete);
  pending_.erase(0, complete);
  return text;
}

std::string StreamDecoder::finish() { return std::exchange(pending_, {}); }

}  // namespace terroir
