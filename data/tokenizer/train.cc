#include "data/tokenizer/train.h"

#include <algorithm>
#include <set>
#include <unordered_map>

#include "base/error.h"
#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/pair_counts.h"

namespace terroir {
namespace {

// The words as sequences of token ids, end to end; merging shortens them in place.
class SymbolWords {
 public:
  // `tokens`: the bytes of each id, up to date at each call.
  SymbolWords(const WordCounts& words, const std::vector<std::string>& tokens,
              const std::array<std::int32_t, 256>& byte_ids)
      : counts_(words.counts), tokens_(tokens) {
    for (std::uint32_t i = 0; i < words.words.size(); ++i) {
      begins_.push_back(symbols_.size());
      for (const char c : words.words.at(i)) symbols_.push_back(byte_ids[static_cast<unsigned char>(c)]);
      lengths_.push_back(static_cast<std::uint32_t>(words.words.at(i).size()));
    }
  }

  std::uint32_t size() const { return static_cast<std::uint32_t>(begins_.size()); }

  void count_pairs(PairCounts& pairs) const {
    for (std::uint32_t word = 0; word < size(); ++word) {
      const std::int32_t* symbols = symbols_.data() + begins_[word];
      for (std::uint32_t i = 0; i + 1 < lengths_[word]; ++i)
        add(pairs, {symbols[i], symbols[i + 1]}, +1, word);
    }
  }

  // Replaces `pair` by `merged` in a word, from left to right, and tells `pairs` what changed around it.
  void merge(std::uint32_t word, TokenPair pair, std::int32_t merged, PairCounts& pairs) {
    std::int32_t* const symbols = symbols_.data() + begins_[word];
    const std::uint32_t length = lengths_[word];
    std::uint32_t out = 0;
    for (std::uint32_t in = 0; in < length; ++in) {
      if (in + 1 == length || symbols[in] != pair.left || symbols[in + 1] != pair.right) {
        symbols[out++] = symbols[in];
        continue;
      }
      if (out > 0) {
        add(pairs, {symbols[out - 1], pair.left}, -1, word);
        add(pairs, {symbols[out - 1], merged}, +1, word);
      }
      ++in;
      if (in + 1 < length) {
        add(pairs, {pair.right, symbols[in + 1]}, -1, word);
        add(pairs, {merged, symbols[in + 1]}, +1, word);
      }
      symbols[out++] = merged;
    }
    lengths_[word] = out;
  }

 private:
  void add(PairCounts& pairs, TokenPair pair, std::int64_t change, std::uint32_t word) const {
    const std::size_t bytes = tokens_[static_cast<std::size_t>(pair.left)].size() +
                              tokens_[static_cast<std::size_t>(pair.right)].size();
    if (bytes <= kMaxMergedBytes) pairs.add(pair, change * static_cast<std::int64_t>(counts_[word]), word);
  }

  const std::vector<std::uint64_t>& counts_;
  const std::vector<std::string>& tokens_;
  std::vector<std::int32_t> symbols_;
  std::vector<std::size_t> begins_;
  std::vector<std::uint32_t> lengths_;
};

// Special tokens first, then the bytes, sorted by the code points that stand for them.
TokenizerParts initial_parts(const TrainOptions& options) {
  TokenizerParts parts;
  parts.pretokenizer = options.pretokenizer;
  for (const std::string& content : options.special_tokens) {
    const auto id = static_cast<std::int32_t>(parts.tokens.size());
    if (content == kBeginOfText) parts.begin_token = id;
    parts.added_tokens.push_back({id, content, /*special=*/true, /*normalized=*/false});
    parts.tokens.push_back(content);
  }
  std::array<int, 256> bytes;
  for (int byte = 0; byte < 256; ++byte) bytes[static_cast<std::size_t>(byte)] = byte;
  const auto& code_points = byte_code_points();
  std::sort(bytes.begin(), bytes.end(), [&](int a, int b) {
    return code_points[static_cast<std::size_t>(a)] < code_points[static_cast<std::size_t>(b)];
  });
  for (const int byte : bytes) parts.tokens.emplace_back(1, static_cast<char>(byte));
  return parts;
}

// A merge made again (a token can come about in two ways, and so can the pairs with it) counts where it came
// last, as in Hugging Face's files.
void keep_last_of_equal_merges(std::vector<TokenizerParts::Merge>& merges) {
  std::set<std::pair<std::int32_t, std::int32_t>> seen;
  std::vector<TokenizerParts::Merge> kept;
  for (auto merge = merges.rbegin(); merge != merges.rend(); ++merge)
    if (seen.emplace(merge->left, merge->right).second) kept.push_back(*merge);
  std::reverse(kept.begin(), kept.end());
  merges = std::move(kept);
}

bool is_one_word(Pretokenizer pretokenizer, const std::string& text) {
  WordSplitter words(pretokenizer, text);
  words.next();
  return words.done();
}

}  // namespace

std::vector<std::string> validate(const TrainOptions& options) {
  std::vector<std::string> problems;
  const std::size_t smallest = options.special_tokens.size() + 256;
  if (options.vocab_size < 0 || static_cast<std::size_t>(options.vocab_size) < smallest)
    problems.push_back(fmt::format("vocabulary size {} is below {}: {} special tokens and 256 bytes",
                                   options.vocab_size, smallest, options.special_tokens.size()));
  std::set<std::string> seen;
  for (const std::string& token : options.special_tokens) {
    const bool is_printable_ascii =
        std::all_of(token.begin(), token.end(), [](char c) { return c >= '!' && c <= '~'; });
    if (token.empty() || !is_printable_ascii) {
      problems.push_back(fmt::format("special token \"{}\" must be printable ASCII without spaces", token));
    } else if (is_one_word(options.pretokenizer, token)) {
      problems.push_back(
          fmt::format("special token \"{0}\" is a word that text may contain: write it like <|{0}|>", token));
    }
    if (!seen.insert(token).second)
      problems.push_back(fmt::format("special token \"{}\" is given twice", token));
  }
  return problems;
}

TokenizerParts train_bpe(const WordCounts& words, const TrainOptions& options) {
  for (const std::string& problem : validate(options)) TERROIR_CHECK(false, "{}", problem);
  TokenizerParts parts = initial_parts(options);
  std::array<std::int32_t, 256> byte_ids;
  std::unordered_map<std::string, std::int32_t> id_of;
  for (std::size_t id = 0; id < parts.tokens.size(); ++id) {
    const std::string& token = parts.tokens[id];
    id_of.emplace(token, static_cast<std::int32_t>(id));
    if (token.size() == 1) byte_ids[static_cast<unsigned char>(token[0])] = static_cast<std::int32_t>(id);
  }

  SymbolWords symbols(words, parts.tokens, byte_ids);
  PairCounts pairs;
  symbols.count_pairs(pairs);
  pairs.queue_changed();
  const auto vocab_size = static_cast<std::size_t>(options.vocab_size);
  while (parts.tokens.size() < vocab_size) {
    const std::optional<PairCounts::Occurrences> best = pairs.pop_most_frequent();
    if (!best || best->count < std::max<std::uint64_t>(options.min_frequency, 1)) break;
    const auto [left, right] = best->pair;
    std::string token =
        parts.tokens[static_cast<std::size_t>(left)] + parts.tokens[static_cast<std::size_t>(right)];
    const auto [entry, is_new] = id_of.emplace(token, static_cast<std::int32_t>(parts.tokens.size()));
    if (is_new) parts.tokens.push_back(std::move(token));
    parts.merges.push_back({left, right, entry->second});
    for (const std::uint32_t word : best->words) symbols.merge(word, best->pair, entry->second, pairs);
    pairs.queue_changed();
  }
  keep_last_of_equal_merges(parts.merges);
  return parts;
}

}  // namespace terroir
