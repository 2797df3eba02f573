// A byte-level BPE tokenizer: text to token ids and back, as Hugging Face's `tokenizers` does it for the same
// tokenizer.json, token for token. Any byte string can be encoded; without normalizer it decodes to itself.
//
//   const Tokenizer tokenizer = Tokenizer::load("tokenizer.json");
//   std::vector<std::int32_t> ids = tokenizer.encode("안녕하세요");
//   std::string text = tokenizer.decode(ids);
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/merges.h"
#include "data/tokenizer/pretokenizer.h"
#include "data/tokenizer/string_table.h"

namespace terroir {

enum class SpecialTokens {
  kAsText,      // "<|end_of_text|>" inside a text is ordinary characters
  kRecognized,  // it is one token
};

// What one thread keeps from text to text: the ids of words seen (a few megabytes at most) and buffers. May
// be used with one tokenizer after another, not by two threads at once.
class EncoderState {
 private:
  friend class Tokenizer;
  std::shared_ptr<const void> owner_;  // the model the words below belong to
  StringTable words_;
  std::vector<std::uint32_t> ends_;  // word i's ids are ids_[ends_[i - 1], ends_[i])
  std::vector<std::int32_t> ids_;
  std::vector<std::int32_t> symbols_;
  WordMerger merger_;
};

// Immutable; a copy shares the tables. All const functions may be called from several threads.
class Tokenizer {
 public:
  // Reads a tokenizer.json. A missing file is a UserError with exit 2, one that is refused (tokenizer_json.h
  // says for what) with exit 3.
  static Tokenizer load(const std::filesystem::path& path);
  // The same from the file's text; `name` stands for it in messages.
  static Tokenizer parse(std::string text, const std::string& name);

  // The ids of a text. Nothing is put before or after it: begin_id() is the caller's to add. Non-special
  // added tokens are always recognized, as they are by Hugging Face.
  std::vector<std::int32_t> encode(std::string_view text,
                                   SpecialTokens special = SpecialTokens::kAsText) const;
  // Appends the ids to `ids`; the way to encode many texts.
  void encode(std::string_view text, SpecialTokens special, EncoderState& state,
              std::vector<std::int32_t>& ids) const;

  // The bytes of each id, one after another; special tokens as their names.
  // REQUIRES: each id is in [0, vocab_size()).
  std::string decode(std::span<const std::int32_t> ids) const;
  // REQUIRES: id is in [0, vocab_size()). Valid as long as the tokenizer.
  std::string_view token(std::int32_t id) const;

  std::int32_t vocab_size() const;
  // Bytes of text that each id stands for; 0 for special tokens. Indexed by id.
  std::span<const std::uint16_t> token_bytes() const;
  bool is_special(std::int32_t id) const;
  // The id of an added token (special or not) by its content.
  std::optional<std::int32_t> added_token_id(std::string_view content) const;
  // The token to put before each document: what the file's post-processor puts there, if anything.
  std::optional<std::int32_t> bos_id() const;
  // The token after a document: what the post-processor puts there, or else the special token with one of the
  // usual names <|end_of_text|>, <|endoftext|>, </s>, <eos>.
  std::optional<std::int32_t> eos_id() const;

  Pretokenizer pretokenizer() const;
  // The file as it was read, byte for byte, and the SHA-256 of it (64 hexadecimal digits).
  const std::string& json() const;
  const std::string& sha256() const;

 private:
  struct Model;
  explicit Tokenizer(std::shared_ptr<const Model> model) : model_(std::move(model)) {}
  void encode_normalized(std::string_view text, SpecialTokens special, EncoderState& state,
                         std::vector<std::int32_t>& ids) const;
  void encode_words(std::string_view text, EncoderState& state, std::vector<std::int32_t>& ids) const;
  std::span<const std::int32_t> merge_word(std::string_view word, EncoderState& state) const;

  std::shared_ptr<const Model> model_;
};

// Turns ids into text as they come, never handing out part of a character.
//
//   StreamDecoder decoder(tokenizer);
//   while (...) std::cout << decoder.push(next_id());
//   std::cout << decoder.finish();
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}
  // The text that is complete with this id. Bytes that cannot become a character are handed out as they are.
  // REQUIRES: id is in [0, vocab_size()).
  std::string push(std::int32_t id);
  // What is left: an unfinished character's bytes.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  std::string pending_;
};

}  // namespace terroir
