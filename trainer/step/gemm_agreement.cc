#include "trainer/step/gemm_agreement.h"

#include <fmt/ranges.h>

#include <map>

#include "parallel/text.h"
#include "trainer/checkpoint/checkpoint.h"

namespace terroir {
namespace {

// One line for each library or GPU that is not the agreed list's.
void warn_of_others(const std::vector<GemmChoiceList>& lists, const GemmChoiceList& agreed, Logger& log) {
  std::map<std::string, std::vector<std::size_t>> ranks;
  for (std::size_t rank = 0; rank < lists.size(); ++rank)
    if (!lists[rank].library.empty() && lists[rank].library != agreed.library)
      ranks[lists[rank].library].push_back(rank);
  for (const auto& [library, others] : ranks)
    log.warn(
        "ranks {} compute matrix products by {}, others by {}: there they take the library's first "
        "suggestion, unmeasured",
        fmt::join(others, ", "), library, agreed.library);
}

GemmChoiceList agreed_on_rank_0(const std::vector<std::string>& texts, const GemmChoiceList& stored,
                                Logger& log) {
  std::vector<GemmChoiceList> lists;
  lists.reserve(texts.size());
  for (const std::string& text : texts)
    lists.push_back(gemm_choices_from_json(text, "another rank's choices"));
  const GemmChoiceList met = agreed_choices(lists);
  warn_of_others(lists, met, log);
  for (const std::string& change : changed_choices(stored, met)) log.warn("{}", change);
  return agreed_choices(std::array{met, stored});
}

}  // namespace

GemmChoiceList stored_gemm_choices(const std::filesystem::path& checkpoint) {
  const auto text = read_checkpoint_file(checkpoint, kGemmChoicesName);
  return text ? gemm_choices_from_json(*text, (checkpoint / kGemmChoicesName).string()) : GemmChoiceList{};
}

GemmChoiceList agree_on_gemm_choices(GemmChoices& choices, const GemmChoiceList& stored,
                                     Communicator& control, Logger& log) {
  constexpr const char* kWhat = "choices of algorithms";
  const std::vector<std::string> texts = gather_texts(to_json(choices.made), control, kWhat);
  std::string text;
  if (control.rank() == 0) text = to_json(agreed_on_rank_0(texts, stored, log));
  GemmChoiceList agreed = gemm_choices_from_json(broadcast_text(text, control, kWhat), "rank 0's choices");
  choices.num_candidates = 1;
  choices.adopt(agreed);
  return agreed;
}

}  // namespace terroir
