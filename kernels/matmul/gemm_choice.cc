#include "kernels/matmul/gemm_choice.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "base/json.h"

namespace terroir {
namespace {

constexpr double kSameTime = 1.02;
constexpr std::size_t kDigitsPerWord = 16;

const GemmChoice* find(const std::vector<GemmChoice>& choices, const std::string& key) {
  const auto found = std::ranges::find(choices, key, &GemmChoice::key);
  return found == choices.end() ? nullptr : &*found;
}

}  // namespace

std::optional<GemmChoice> GemmChoices::wanted(const std::string& library, const std::string& key) const {
  if (library != wanted_.library) return std::nullopt;
  const GemmChoice* choice = find(wanted_.choices, key);
  return choice == nullptr ? std::nullopt : std::optional(*choice);
}

GemmChoiceList agreed_choices(std::span<const GemmChoiceList> lists) {
  GemmChoiceList agreed;
  for (const GemmChoiceList& list : lists) {
    if (agreed.library.empty()) agreed.library = list.library;
    if (list.library != agreed.library) continue;
    for (const GemmChoice& choice : list.choices)
      if (find(agreed.choices, choice.key) == nullptr) agreed.choices.push_back(choice);
  }
  return agreed;
}

std::string to_json(const GemmChoiceList& list) {
  std::string choices;
  for (const auto& [key, algorithm, us] : list.choices)
    choices += fmt::format("{}    {}", choices.empty() ? "\n" : ",\n",
                           OrderedJson{{"key", key}, {"algorithm", algorithm}, {"us", us}}.dump());
  return fmt::format("{{\n  \"library\": {},\n  \"choices\": [{}]\n}}\n", Json(list.library).dump(), choices);
}

GemmChoiceList gemm_choices_from_json(const std::string& text, const std::string& file) {
  constexpr ExitCode kExit = ExitCode::kCheckpoint;
  const Place place = {.file = file};
  const Json json = parse_json(text, file, kExit);
  GemmChoiceList list = {.library = json_at<std::string>(json, "library", place, kExit), .choices = {}};
  const Json choices = json_at<Json>(json, "choices", place, kExit);
  if (!choices.is_array()) throw UserError(kExit, place, "`choices` must be a list");
  for (const Json& choice : choices) {
    list.choices.push_back({json_at<std::string>(choice, "key", place, kExit),
                            json_at<std::string>(choice, "algorithm", place, kExit),
                            json_at<double>(choice, "us", place, kExit)});
    if (!algorithm_from_hex(list.choices.back().algorithm))
      throw UserError(kExit, place, "`algorithm` must be 128 hexadecimal digits");
  }
  return list;
}

std::vector<std::string> changed_choices(const GemmChoiceList& before, const GemmChoiceList& now) {
  if (before.library.empty() || now.library.empty()) return {};
  if (before.library != now.library)
    return {fmt::format("matrix products were computed by {}, now by {}: results may differ in rounding",
                        before.library, now.library)};
  std::vector<std::string> changes;
  for (const GemmChoice& choice : now.choices) {
    const GemmChoice* old = find(before.choices, choice.key);
    if (old != nullptr && old->algorithm != choice.algorithm)
      changes.push_back(fmt::format(
          "matrix product {}: another algorithm than before, results may differ in rounding", choice.key));
  }
  return changes;
}

std::string to_hex(const AlgorithmWords& words) {
  std::string text;
  for (const std::uint64_t word : words) text += fmt::format("{:016x}", word);
  return text;
}

std::optional<AlgorithmWords> algorithm_from_hex(const std::string& text) {
  AlgorithmWords words{};
  if (text.size() != words.size() * kDigitsPerWord) return std::nullopt;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const char* begin = text.data() + i * kDigitsPerWord;
    const auto [end, error] = std::from_chars(begin, begin + kDigitsPerWord, words[i], 16);
    if (error != std::errc() || end != begin + kDigitsPerWord) return std::nullopt;
  }
  return words;
}

std::size_t fastest(const std::vector<double>& us) {
  const double limit = *std::ranges::min_element(us) * kSameTime;
  return static_cast<std::size_t>(std::ranges::find_if(us, [&](double time) { return time <= limit; }) -
                                  us.begin());
}

}  // namespace terroir
