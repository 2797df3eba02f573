#include "tests/cuda_on_cpu/schedule.h"

#include <sstream>
#include <stdexcept>

namespace cuda_on_cpu {

Schedule schedule_of_environment() {
  const char* text = std::getenv(Schedule::kVariable);
  if (text == nullptr) return {};
  Schedule schedule;
  std::istringstream words(text);
  std::string start, pick;
  words >> start >> pick >> schedule.seed;
  for (const auto each :
       {Schedule::Start::kAscending, Schedule::Start::kDescending, Schedule::Start::kShuffled})
    for (const auto way : {Schedule::Pick::kFirst, Schedule::Pick::kLast, Schedule::Pick::kRandom}) {
      const Schedule candidate{each, way, schedule.seed};
      if (candidate.text() == start + " " + pick + " " + std::to_string(schedule.seed) && words)
        return candidate;
    }
  throw std::invalid_argument(std::string(Schedule::kVariable) + "=\"" + text +
                              "\": expected <ascending|descending|shuffled> <first|last|random> <seed>");
}

}  // namespace cuda_on_cpu
