#include "trainer/cli/tokenizer_report.h"

#include <fmt/core.h>

#include <algorithm>

#include "data/tokenizer/char_class.h"

namespace terroir {
namespace {

void count_characters(std::string_view text, TokenizerReport& report) {
  const CharClassTable& table = CharClassTable::get();
  const char* const end = text.data() + text.size();
  bool in_word = false;
  for (const char* p = text.data(); p < end;) {
    const ClassifiedChar c = classify(table, p, end);
    const bool is_space = c.char_class == CharClass::kSpace || c.char_class == CharClass::kNewline;
    if (!is_space && !in_word) ++report.words;
    in_word = !is_space;
    ++report.characters;
    p += c.length;
  }
}

// n / d, or nothing.
OrderedJson ratio(std::uint64_t n, std::uint64_t d) {
  if (d == 0) return nullptr;
  return static_cast<double>(n) / static_cast<double>(d);
}

}  // namespace

TokenizerReport report_tokenizer(const Tokenizer& tokenizer, const std::string& name, std::string_view text) {
  TokenizerReport report{.name = name, .bytes = text.size()};
  count_characters(text, report);
  const std::vector<std::int32_t> ids = tokenizer.encode(text);
  report.tokens = ids.size();
  report.single_byte_tokens =
      static_cast<std::uint64_t>(std::count_if(ids.begin(), ids.end(), [&](std::int32_t id) {
        const std::string_view token = tokenizer.token(id);
        return token.size() == 1 && (token[0] & '\x80') != 0;
      }));
  return report;
}

OrderedJson to_json(const Tokenizer& tokenizer, const std::vector<TokenizerReport>& rows) {
  OrderedJson files = OrderedJson::array();
  for (const TokenizerReport& row : rows)
    files.push_back({{"file", row.name},
                     {"bytes", row.bytes},
                     {"characters", row.characters},
                     {"words", row.words},
                     {"tokens", row.tokens},
                     {"single_byte_tokens", row.single_byte_tokens},
                     {"bytes_per_token", ratio(row.bytes, row.tokens)},
                     {"tokens_per_word", ratio(row.tokens, row.words)},
                     {"characters_per_token", ratio(row.characters, row.tokens)},
                     {"single_byte_share", ratio(row.single_byte_tokens, row.tokens)}});
  return {{"tokenizer_sha256", tokenizer.sha256()}, {"vocab_size", tokenizer.vocab_size()}, {"files", files}};
}

std::string to_table(const std::vector<TokenizerReport>& rows) {
  const auto cell = [](std::uint64_t n, std::uint64_t d) {
    return d == 0 ? std::string("-") : fmt::format("{:.3f}", static_cast<double>(n) / static_cast<double>(d));
  };
  std::string table = fmt::format("{:>12} {:>12} {:>12} {:>12} {:>12}  {}\n", "tokens", "bytes/token",
                                  "tokens/word", "chars/token", "single bytes", "file");
  for (const TokenizerReport& row : rows)
    table += fmt::format(
        "{:>12} {:>12} {:>12} {:>12} {:>11.2f}%  {}\n", row.tokens, cell(row.bytes, row.tokens),
        cell(row.tokens, row.words), cell(row.characters, row.tokens),
        row.tokens == 0 ? 0.0
                        : 100 * static_cast<double>(row.single_byte_tokens) / static_cast<double>(row.tokens),
        row.name);
  return table;
}

}  // namespace terroir
