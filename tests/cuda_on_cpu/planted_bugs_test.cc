// Every mistake of planted_bugs.cu is found by what is meant to find it, and correct kernels by nothing.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <ostream>
#include <string>

namespace cuda_on_cpu {
namespace {

struct Outcome {
  int status;
  std::string output;
};
Outcome run_planted(const std::string& arguments) {
  FILE* pipe = popen((TERROIR_PLANTED_BUGS " " + arguments + " 2>&1").c_str(), "r");
  Outcome outcome{};
  char buffer[4096];
  while (std::fgets(buffer, sizeof(buffer), pipe) != nullptr) outcome.output += buffer;
  const int status = pclose(pipe);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return outcome;
}

class CorrectKernel : public testing::TestWithParam<const char*> {};
TEST_P(CorrectKernel, PassesUnderEverySchedule) {
  const Outcome outcome = run_planted(std::string(GetParam()) + " schedules");
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_EQ(outcome.output, "0 schedules differ\n");
}
INSTANTIATE_TEST_SUITE_P(Planted, CorrectKernel, testing::Values("correct", "correct_warp", "correct_async"));

struct Planted {
  const char* name;
  const char* arguments;
  const char* found;  // part of the output
  friend std::ostream& operator<<(std::ostream& out, const Planted& planted) { return out << planted.name; }
};
class PlantedBug : public testing::TestWithParam<Planted> {};
TEST_P(PlantedBug, IsFound) {
  const Planted& planted = GetParam();
  const Outcome outcome = run_planted(std::string(planted.name) + " " + planted.arguments);
  EXPECT_NE(outcome.status, 0) << outcome.output;
  EXPECT_NE(outcome.output.find(planted.found), std::string::npos) << outcome.output;
}

// By the sanitizer of this build, or without one by the schedules.
#if defined(__SANITIZE_THREAD__)
constexpr const char* kRace = "ThreadSanitizer: data race";
INSTANTIATE_TEST_SUITE_P(ThreadSanitizer, PlantedBug,
                         testing::Values(Planted{"no_barrier_before_read", "", kRace},
                                         Planted{"no_barrier_before_write", "", kRace},
                                         Planted{"no_warp_barrier", "", kRace},
                                         Planted{"warp_barrier_for_a_block", "", kRace},
                                         Planted{"async_copy_without_barrier", "", kRace}));
#elif defined(__SANITIZE_ADDRESS__)
INSTANTIATE_TEST_SUITE_P(
    AddressSanitizer, PlantedBug,
    testing::Values(Planted{"global_overrun", "", "AddressSanitizer: heap-buffer-overflow"},
                    Planted{"use_after_free", "", "AddressSanitizer: heap-use-after-free"},
                    Planted{"dynamic_shared_overrun", "", "AddressSanitizer: heap-buffer-overflow"},
                    Planted{"static_shared_overrun", "", "AddressSanitizer: global-buffer-overflow"},
                    Planted{"misaligned_vector", "", "misaligned address"}));
#else
INSTANTIATE_TEST_SUITE_P(Schedules, PlantedBug,
                         testing::Values(Planted{"no_barrier_before_read", "schedules", "schedules differ"},
                                         Planted{"no_barrier_before_write", "schedules", "schedules differ"},
                                         Planted{"no_warp_barrier", "schedules", "schedules differ"},
                                         Planted{"warp_barrier_for_a_block", "schedules", "schedules differ"},
                                         Planted{"async_copy_without_barrier", "schedules",
                                                 "schedules differ"},
                                         Planted{"race_between_blocks", "schedules", "schedules differ"}));
#endif

}  // namespace
}  // namespace cuda_on_cpu
