#include "trainer/config/read_value.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "trainer/config/scalar.h"
#include "trainer/config/suggest.h"

namespace terroir {
namespace {

std::string check_range(const ConfigKey& key, double value, const std::string& written) {
  if (!key.range.contains(value))
    return fmt::format("{} is out of range: give {}", written, to_string(key.range));
  if (!key.built.contains(value))
    return fmt::format("{} is planned but not built: give {}", written, to_string(key.built));
  return {};
}

std::string expected(std::string_view what, const YamlNode& node) {
  const bool number_in_quotes = node.kind == YamlNode::Kind::kScalar && node.quoted;
  return fmt::format("expected {}, got {}{}", what, describe(node),
                     number_in_quotes ? ": remove the quotes" : "");
}

template <class Int>
std::string read_integer(const ConfigKey& key, const YamlNode& node, Int& out) {
  if (node.kind != YamlNode::Kind::kScalar || node.quoted) return expected("an integer", node);
  const Parsed<Int> parsed = parse_integer<Int>(node.scalar);
  if (!parsed.value) return parsed.error;
  std::string error = check_range(key, static_cast<double>(*parsed.value), node.scalar);
  if (error.empty()) out = *parsed.value;
  return error;
}

std::string read_number(const ConfigKey& key, const YamlNode& node, double& out) {
  if (node.kind != YamlNode::Kind::kScalar || node.quoted) return expected("a number", node);
  const Parsed<double> parsed = parse_number(node.scalar);
  if (!parsed.value) return parsed.error;
  std::string error = check_range(key, *parsed.value, node.scalar);
  if (error.empty()) out = *parsed.value;
  return error;
}

bool is_one_of(const std::string& word, const std::vector<std::string_view>& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::string check_choice(const ConfigKey& key, const std::string& word) {
  if (key.choices.empty() || is_one_of(word, key.choices)) return {};
  const std::string choices = fmt::format("{}", fmt::join(key.choices, ", "));
  if (is_one_of(word, key.planned)) return fmt::format("{} is planned but not built: give {}", word, choices);
  const std::string nearest = nearest_word(word, {key.choices.begin(), key.choices.end()});
  if (!nearest.empty())
    return fmt::format("\"{}\" is not one of {}: did you mean {}?", word, choices, nearest);
  return fmt::format("\"{}\" is not one of {}", word, choices);
}

struct ValueReader {
  const ConfigKey& key;
  const YamlNode& node;

  std::string operator()(bool* out) const {
    const bool plain = node.kind == YamlNode::Kind::kScalar && !node.quoted;
    if (!plain || (node.scalar != "true" && node.scalar != "false"))
      return fmt::format("expected true or false, got {}", describe(node));
    *out = node.scalar == "true";
    return {};
  }
  std::string operator()(int* out) const { return read_integer(key, node, *out); }
  std::string operator()(std::int64_t* out) const { return read_integer(key, node, *out); }
  std::string operator()(std::uint64_t* out) const { return read_integer(key, node, *out); }
  std::string operator()(double* out) const { return read_number(key, node, *out); }
  std::string operator()(std::string* out) const {
    if (node.kind == YamlNode::Kind::kNull && key.nullable) {
      out->clear();
      return {};
    }
    if (node.kind != YamlNode::Kind::kScalar) return fmt::format("expected a text, got {}", describe(node));
    if (node.scalar.empty()) return "the text is empty: give one";
    // Below space are control characters: none belongs into a name or a path.
    if (std::any_of(node.scalar.begin(), node.scalar.end(),
                    [](unsigned char c) { return c < 0x20 || c == 0x7F; }))
      return "control characters in the text: remove them";
    std::string error = check_choice(key, node.scalar);
    if (error.empty()) *out = node.scalar;
    return error;
  }
  std::string operator()(std::vector<std::int64_t>* out) const {
    if (node.kind != YamlNode::Kind::kList)
      return fmt::format("expected a list of integers such as [3, 5], got {}", describe(node));
    std::vector<std::int64_t> values;
    for (const YamlNode& item : node.items)
      if (std::string error = read_integer(key, item, values.emplace_back()); !error.empty()) return error;
    *out = std::move(values);
    return {};
  }
  std::string operator()(NumberPair out) const {
    if (node.kind != YamlNode::Kind::kList || node.items.size() != 2) {
      const std::string got = node.kind == YamlNode::Kind::kList
                                  ? fmt::format("a list of {}", node.items.size())
                                  : describe(node);
      return fmt::format("expected two numbers such as [0.9, 0.95], got {}", got);
    }
    double first = 0, second = 0;
    if (std::string error = read_number(key, node.items[0], first); !error.empty()) return error;
    if (std::string error = read_number(key, node.items[1], second); !error.empty()) return error;
    *out.first = first;
    *out.second = second;
    return {};
  }
  std::string operator()(IntegerOrFromTokenizer out) const {
    const bool from_tokenizer = node.kind == YamlNode::Kind::kScalar && node.scalar == kFromTokenizer;
    if (!from_tokenizer)
      if (std::string error = read_integer(key, node, *out.value); !error.empty())
        return error + fmt::format(", or {}", kFromTokenizer);
    *out.from_tokenizer = from_tokenizer;
    return {};
  }
};

}  // namespace

std::string read_value(const ConfigKey& key, const YamlNode& node, const Field& field) {
  return std::visit(ValueReader{key, node}, field);
}

}  // namespace terroir
