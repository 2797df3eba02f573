#include "base/log.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace terroir {
namespace {

std::string stderr_of(int rank, bool quiet) {
  testing::internal::CaptureStderr();
  {
    Logger log(rank, {}, quiet);
    log.debug("d{}", 1);
    log.info("i{}", 2);
    log.warn("w{}", 3);
    log.flush();
  }
  return testing::internal::GetCapturedStderr();
}

TEST(Logger, ShowsInformationOfRankZeroAndWarningsOfAll) {
  EXPECT_EQ(stderr_of(0, false), "i2\nw3\n");
  EXPECT_EQ(stderr_of(0, true), "w3\n");
  EXPECT_EQ(stderr_of(2, false), "[rank 2] w3\n");
}

TEST(Logger, WritesEveryLevelToTheRanksFile) {
  const auto path =
      std::filesystem::temp_directory_path() / fmt::format("terroir_log_test_{}.log", ::getpid());
  {
    Logger log(3, path, true);
    log.debug("first");
    log.info("second {}", "two");
    log.flush();
  }
  const std::string text = read_file(path);
  EXPECT_NE(text.find("[debug] rank 3: first\n"), std::string::npos) << text;
  EXPECT_NE(text.find("[info] rank 3: second two\n"), std::string::npos) << text;
}

TEST(Logger, SaysWhichFileCannotBeOpened) {
  expect_error(ExitCode::kInternal, {"open log file", "/proc/no/such/folder"},
               [] { Logger(0, "/proc/no/such/folder/rank.log", true); });
}

}  // namespace
}  // namespace terroir
