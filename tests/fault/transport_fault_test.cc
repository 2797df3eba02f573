// What mpirun returns, and that no process is left, when one rank of three is killed, frozen or fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "tests/support/temporary_folder.h"

namespace terroir {
namespace {

using testing::HasSubstr;

constexpr double kTimeout = 2;  // seconds, of every operation
// What a loaded machine may take on top: mpirun's start and its patience with dying ranks.
constexpr double kSlack = 15;

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

int count_processes(const std::string& token) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string command = read_file(entry.path() / "cmdline");
    count += command.find(token) != std::string::npos && command.find("fault_rank") != std::string::npos;
  }
  return count;
}

struct JobResult {
  int exit_code = -1;
  double seconds = 0;
  int processes_left = 0;
  std::string output;
};

JobResult run_job(const std::string& kind) {
  const TemporaryFolder folder;
  const std::filesystem::path output = folder.path() / "output";
  const std::string token = "token-" + kind + std::to_string(getpid());
  const std::string command = std::string(TERROIR_MPIEXEC) + " -np 3 " + TERROIR_FAULT_RANK + " " + kind +
                              " " + std::to_string(kTimeout) + " " + token + " > " + output.string() +
                              " 2>&1";
  JobResult result;
  const auto start = std::chrono::steady_clock::now();
  result.exit_code = WEXITSTATUS(std::system(command.c_str()));
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  // mpirun returns a little before the last of its ranks is gone.
  for (int i = 0; i < 50; ++i) {
    result.processes_left = count_processes(token);
    if (result.processes_left == 0) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  result.output = read_file(output);
  return result;
}

void expect_clean_end(const JobResult& result, int exit_code) {
  EXPECT_EQ(result.exit_code, exit_code) << result.output;
  EXPECT_LT(result.seconds, kTimeout + kSlack) << result.output;
  EXPECT_EQ(result.processes_left, 0) << result.output;
}

// What the ranks that are left print when rank 1 does not come to its fourth all_reduce.
const auto kNamesTheMissingRank = testing::ContainsRegex(
    "terroir: error: rank [02], step 3 \\(backward\\): all_reduce of 'gradients' f32\\[50000\\] "
    "over group data \\(ranks 0 1 2\\): not complete after 2 s, still waiting for ranks? 1");

TEST(MpiFault, AKilledRankEndsTheJob) { expect_clean_end(run_job("kill"), 128 + SIGKILL); }

TEST(MpiFault, ACrashedRankEndsTheJob) { expect_clean_end(run_job("segfault"), 128 + SIGSEGV); }

TEST(MpiFault, AFrozenRankEndsTheJobAfterTheDeadlineAndIsNamed) {
  const JobResult result = run_job("stop");
  expect_clean_end(result, 7);
  EXPECT_THAT(result.output, kNamesTheMissingRank);
}

TEST(MpiFault, ARankThatHangsOutsideOfCommunicationIsNamed) {
  const JobResult result = run_job("hang");
  expect_clean_end(result, 7);
  EXPECT_THAT(result.output, kNamesTheMissingRank);
}

TEST(MpiFault, AnExceptionEndsTheJobWithItsOwnExitCode) {
  const JobResult result = run_job("throw");
  expect_clean_end(result, 3);
  EXPECT_THAT(result.output, HasSubstr("terroir: error: ko-00003.h5: is damaged; build it again"));
}

TEST(MpiFault, AnExceptionThatUnwindsThroughTheWorldDoesNotHangInFinalize) {
  const JobResult result = run_job("unwind");
  expect_clean_end(result, 3);
  EXPECT_THAT(result.output, HasSubstr("is damaged"));
}

TEST(MpiFault, ARankThatLeavesInTheMiddleIsAFailure) {
  // mpirun's own rule: leaving without MPI_Finalize is an error, whatever the exit code.
  const JobResult result = run_job("exit");
  EXPECT_NE(result.exit_code, 0);
  EXPECT_EQ(result.processes_left, 0);
}

TEST(MpiFault, ARankThatNeverStartsIsNotWaitedForForever) {
  const JobResult result = run_job("never_starts");
  expect_clean_end(result, 7);
  EXPECT_THAT(result.output, HasSubstr("MPI start: not complete after 2 s"));
}

}  // namespace
}  // namespace terroir
