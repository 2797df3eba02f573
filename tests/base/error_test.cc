#include "base/error.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace terroir {
namespace {

TEST(Place, PrintsWhatIsKnownAndLeavesOutTheRest) {
  EXPECT_EQ(to_string(Place{}), "");
  EXPECT_EQ(to_string(Place{"a.yaml"}), "a.yaml: ");
  EXPECT_EQ(to_string(Place{"a.yaml", 3}), "a.yaml:3: ");
  EXPECT_EQ(to_string(Place{"a.yaml", 3, 7}), "a.yaml:3:7: ");
  EXPECT_EQ(to_string(Place{"a.yaml", 3, 7, "train.steps"}), "a.yaml:3:7: train.steps: ");
  EXPECT_EQ(to_string(Place{"a.yaml", 0, 7}), "a.yaml: ") << "a column means nothing without its line";
  EXPECT_EQ(to_string(Place{"", 0, 0, "train.steps"}), "train.steps: ");
}

TEST(ErrorReport, GivesAUserErrorOneLinePerProblem) {
  const UserError error(ExitCode::kUsage, {{Place{"a.yaml", 3, 7, "train.steps"}, "must be positive"},
                                           {Place{"", 0, 0, "optimizer.lr"}, "must be a number"}});
  EXPECT_EQ(error_report(error),
            "terroir: error: a.yaml:3:7: train.steps: must be positive\n"
            "terroir: error: optimizer.lr: must be a number\n");
  EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
  EXPECT_EQ(error.problems().size(), 2U);
}

TEST(ErrorReport, NamesTheFailedCallOfASystemError) {
  const SystemError error("MPI_Isend", "message truncated", ExitCode::kTransport);
  EXPECT_EQ(error_report(error), "terroir: error: MPI_Isend: message truncated\n");
  EXPECT_EQ(error.exit_code(), ExitCode::kTransport);
}

TEST(ErrorReport, AsksForAReportOfOurOwnMistakes) {
  EXPECT_EQ(error_report(ContractError("rank 4 of 4")),
            "terroir: internal error: rank 4 of 4 (please report this)\n");
  EXPECT_EQ(error_report(std::runtime_error("surprise")),
            "terroir: internal error: surprise (please report this)\n");
}

TEST(SystemError, FromErrnoTellsAFullDiskFromOtherFailures) {
  for (const int full : {ENOSPC, EDQUOT, EFBIG})
    EXPECT_EQ(SystemError::from_errno("write", "/x", full).exit_code(), ExitCode::kNoSpace);
  const SystemError denied = SystemError::from_errno("open", "/x/y", EACCES);
  EXPECT_EQ(denied.exit_code(), ExitCode::kUsage);
  EXPECT_EQ(SystemError::from_errno("read", "/x", EIO).exit_code(), ExitCode::kInternal);
  EXPECT_STREQ(denied.what(), "open /x/y: Permission denied");
}

TEST(UserError, NeedsAProblem) { EXPECT_THROW(UserError(ExitCode::kUsage, {}), ContractError); }

TEST(Check, PassesInSilenceAndEvaluatesItsConditionOnce) {
  int count = 0;
  EXPECT_NO_THROW(TERROIR_CHECK(++count == 1, "count is {}", count));
  EXPECT_EQ(count, 1);
}

TEST(Check, FailsWithPlaceMessageAndCondition) {
  const int rank = 4, size = 4;
  try {
    TERROIR_CHECK(rank < size, "rank {} of {}", rank, size);
    FAIL() << "nothing was thrown";
  } catch (const ContractError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("error_test.cc:"), std::string::npos) << message;
    EXPECT_NE(message.find("rank 4 of 4 [rank < size]"), std::string::npos) << message;
    EXPECT_EQ(error.exit_code(), ExitCode::kInternal);
  }
}

// Scripts and schedulers count on these numbers (docs: exit codes).
TEST(ExitCodes, AreTheOnesScriptsRelyOn) {
  EXPECT_EQ(static_cast<int>(ExitCode::kDone), 0);
  EXPECT_EQ(static_cast<int>(ExitCode::kInternal), 1);
  EXPECT_EQ(static_cast<int>(ExitCode::kUsage), 2);
  EXPECT_EQ(static_cast<int>(ExitCode::kData), 3);
  EXPECT_EQ(static_cast<int>(ExitCode::kCheckpoint), 4);
  EXPECT_EQ(static_cast<int>(ExitCode::kNoSpace), 5);
  EXPECT_EQ(static_cast<int>(ExitCode::kNumerical), 6);
  EXPECT_EQ(static_cast<int>(ExitCode::kTransport), 7);
  EXPECT_EQ(static_cast<int>(ExitCode::kRequeue), 75);
  EXPECT_EQ(static_cast<int>(ExitCode::kNoProgress), 93);
}

}  // namespace
}  // namespace terroir
