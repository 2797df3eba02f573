// In which order a launch runs its blocks and the runnable threads of a block. A kernel without races gives
// the same bits under all schedules. A schedule is chosen by an environment variable that every launch reads:
// a test reaches the emulator inside a module that way, too.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

namespace cuda_on_cpu {

struct Schedule {
  enum class Start { kAscending, kDescending, kShuffled } start = Start::kAscending;  // of threads and blocks
  enum class Pick { kFirst, kLast, kRandom } pick = Pick::kFirst;  // among runnable threads
  std::uint32_t seed = 1;

  static constexpr const char* kVariable = "TERROIR_EMULATOR_SCHEDULE";
  std::string text() const;  // "<ascending|descending|shuffled> <first|last|random> <seed>"
};

inline std::string Schedule::text() const {
  constexpr const char* kStarts[] = {"ascending", "descending", "shuffled"};
  constexpr const char* kPicks[] = {"first", "last", "random"};
  return std::string(kStarts[static_cast<int>(start)]) + " " + kPicks[static_cast<int>(pick)] + " " +
         std::to_string(seed);
}

// Throws std::invalid_argument for text that is no schedule. Without the variable: the default.
Schedule schedule_of_environment();

// 24 of them: each order with each way to pick, what is random under several seeds.
inline std::vector<Schedule> all_schedules() {
  std::vector<Schedule> all;
  for (const auto start :
       {Schedule::Start::kAscending, Schedule::Start::kDescending, Schedule::Start::kShuffled})
    for (const auto pick : {Schedule::Pick::kFirst, Schedule::Pick::kLast, Schedule::Pick::kRandom}) {
      const bool shuffled = start == Schedule::Start::kShuffled, random = pick == Schedule::Pick::kRandom;
      const std::uint32_t seeds = shuffled && random ? 8 : shuffled || random ? 3 : 1;
      for (std::uint32_t seed = 1; seed <= seeds; ++seed) all.push_back({start, pick, seed});
    }
  return all;
}

// Launches that run while it lives follow the schedule; then again the one before. Work is run late: the test
// synchronizes its stream within. Not while other threads launch.
class ScopedSchedule {
 public:
  explicit ScopedSchedule(const Schedule& schedule) {
    if (const char* before = std::getenv(Schedule::kVariable)) before_ = before, was_set_ = true;
    setenv(Schedule::kVariable, schedule.text().c_str(), 1);
  }
  ~ScopedSchedule() {
    if (was_set_)
      setenv(Schedule::kVariable, before_.c_str(), 1);
    else
      unsetenv(Schedule::kVariable);
  }
  ScopedSchedule(const ScopedSchedule&) = delete;
  ScopedSchedule& operator=(const ScopedSchedule&) = delete;

 private:
  std::string before_;
  bool was_set_ = false;
};

// Calls run(), which returns what the kernel computed (a vector, compared with ==; floats as their bits,
// since a NaN equals nothing), under every schedule. The schedules whose result is not that of the first:
// none if the kernel has no race that shows.
template <class Run>
std::vector<std::string> schedules_that_differ(Run run) {
  std::vector<std::string> differing;
  const std::vector<Schedule> schedules = all_schedules();
  const auto run_under = [&](const Schedule& schedule) {
    const ScopedSchedule scoped(schedule);
    return run();
  };
  const auto wanted = run_under(schedules.front());
  for (const Schedule& schedule : schedules)
    if (!(run_under(schedule) == wanted)) differing.push_back(schedule.text());
  return differing;
}

// Calls run(schedule) under every schedule.
template <class Run>
void for_each_schedule(Run run) {
  for (const Schedule& schedule : all_schedules()) {
    const ScopedSchedule scoped(schedule);
    run(schedule);
  }
}

}  // namespace cuda_on_cpu
