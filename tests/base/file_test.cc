#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace terroir {
namespace fs = std::filesystem;
namespace {

class FileTest : public testing::Test {
 protected:
  void put(const std::string& name, std::string_view text) { std::ofstream(folder_ / name) << text; }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_.path())) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  TemporaryFolder folder_;
};

using AtomicFileTest = FileTest;
using InputFileTest = FileTest;
using ReadFileTest = FileTest;
using FileLockTest = FileTest;

TEST_F(ReadFileTest, ReturnsTheWholeFile) {
  const std::string text(3 << 20, 'x');  // several of the pieces it is read in
  put("a", text + "end");
  EXPECT_EQ(read_file(folder_ / "a"), text + "end");
  put("empty", "");
  EXPECT_EQ(read_file(folder_ / "empty"), "");
}

TEST_F(ReadFileTest, RefusesMissingFilesFoldersAndFilesTooLarge) {
  const std::string missing = (folder_ / "missing").string();
  expect_error(ExitCode::kUsage, {missing + ": cannot open: No such file"}, [&] { read_file(missing); });
  expect_error(ExitCode::kData, {missing}, [&] { read_file(missing, ExitCode::kData); });
  expect_error(ExitCode::kUsage, {"is a folder, a file is needed"}, [&] { read_file(folder_.path()); });
  put("a", "12345");
  EXPECT_EQ(read_file(folder_ / "a", ExitCode::kData, 5), "12345");
  expect_error(ExitCode::kData, {"is larger than the 4 bytes allowed here"},
               [&] { read_file(folder_ / "a", ExitCode::kData, 4); });
}

TEST_F(InputFileTest, ReadsAnywhere) {
  put("a", "0123456789");
  const InputFile file(folder_ / "a");
  EXPECT_EQ(file.size(), 10U);
  std::string part(4, '?');
  file.read_at(6, std::as_writable_bytes(std::span(part)));
  EXPECT_EQ(part, "6789");
  file.read_at(0, std::as_writable_bytes(std::span(part)));
  EXPECT_EQ(part, "0123");
}

TEST_F(InputFileTest, SaysWhereATruncatedFileEnds) {
  put("a", "0123456789");
  const InputFile file(folder_ / "a", ExitCode::kCheckpoint);
  std::string part(4, '?');
  expect_error(ExitCode::kCheckpoint,
               {"ends at byte 10, 4 bytes were expected from byte 8: the file is truncated"},
               [&] { file.read_at(8, std::as_writable_bytes(std::span(part))); });
  expect_error(ExitCode::kData, {"cannot open"}, [&] { InputFile(folder_ / "b", ExitCode::kData); });
}

TEST_F(AtomicFileTest, CommitReplacesTheOldFileAndLeavesNoTemporary) {
  put("a", "old");
  AtomicFile file(folder_ / "a");
  file.write("new ");
  file.write("text");
  EXPECT_EQ(file.bytes_written(), 8U);
  EXPECT_EQ(read_file(folder_ / "a"), "old") << "the old file stands until commit";
  file.commit();
  EXPECT_EQ(read_file(folder_ / "a"), "new text");
  EXPECT_EQ(names(), std::vector<std::string>{"a"});
  EXPECT_THROW(file.commit(), ContractError);
}

TEST_F(AtomicFileTest, WithoutCommitTheOldFileStandsAndTheTemporaryGoes) {
  put("a", "old");
  {
    AtomicFile file(folder_ / "a");
    file.write("half of the new te");
    EXPECT_EQ(names().size(), 2U);
  }
  EXPECT_EQ(read_file(folder_ / "a"), "old");
  EXPECT_EQ(names(), std::vector<std::string>{"a"});
}

TEST_F(AtomicFileTest, TwoWritersOfOneNameDoNotMeet) {
  AtomicFile first(folder_ / "a"), second(folder_ / "a");
  first.write("first");
  second.write("second");
  second.commit();
  first.commit();
  EXPECT_EQ(read_file(folder_ / "a"), "first");
}

TEST_F(AtomicFileTest, MayBeWrittenByALibraryUnderItsTemporaryName) {
  AtomicFile file(folder_ / "a");
  std::ofstream(file.temporary_path()) << "by a library";
  file.commit();
  EXPECT_EQ(read_file(folder_ / "a"), "by a library");
}

TEST_F(AtomicFileTest, CannotBeginInAMissingFolder) {
  expect_error(ExitCode::kUsage, {"create", "missing/a", "No such file"},
               [&] { AtomicFile(folder_ / "missing" / "a"); });
}

// The limit stands in for a full disk: write fails with EFBIG after a part was written.
TEST_F(AtomicFileTest, ADiskWithoutSpaceIsExitCode5AndTheOldFileStands) {
  put("a", "old");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 1000, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_error(ExitCode::kNoSpace, {"write", "File too large"},
               [&] { write_file_atomically(folder_ / "a", std::string(5000, 'x')); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(read_file(folder_ / "a"), "old");
  EXPECT_EQ(names(), std::vector<std::string>{"a"});
}

TEST_F(FileTest, DirectoriesAreMadeWithTheirParents) {
  terroir::create_directories(folder_ / "x" / "y");
  EXPECT_TRUE(fs::is_directory(folder_ / "x" / "y"));
  EXPECT_NO_THROW(terroir::create_directories(folder_ / "x" / "y"));
  put("file", "");
  expect_error(ExitCode::kUsage, {"mkdir", "file/z"},
               [&] { terroir::create_directories(folder_ / "file" / "z"); });
}

TEST_F(FileTest, RenameMovesAFolder) {
  terroir::create_directories(folder_ / "from");
  put("from/a", "text");
  rename_durably(folder_ / "from", folder_ / "to");
  EXPECT_EQ(read_file(folder_ / "to" / "a"), "text");
  EXPECT_EQ(names(), std::vector<std::string>{"to"});
  expect_error(ExitCode::kUsage, {"rename", "No such file"},
               [&] { rename_durably(folder_ / "from", folder_ / "elsewhere"); });
}

TEST_F(FileLockTest, RefusesASecondHolderUntilTheFirstIsGone) {
  const fs::path path = folder_ / "lock";
  {
    const FileLock first(path);
    expect_error(ExitCode::kUsage, {path.string(), "is locked by another process"},
                 [&] { FileLock second(path); });
  }
  EXPECT_NO_THROW(FileLock{path});
}

TEST_F(FileTest, AtomicFileFollowsALinkAndKeepsIt) {
  put("target", "old");
  fs::create_symlink("target", folder_ / "link");
  write_file_atomically(folder_ / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(read_file(folder_ / "target"), "new");
  EXPECT_EQ(names(), (std::vector<std::string>{"link", "target"}));
}

TEST_F(FileTest, AtomicFileWritesIntoADeviceInsteadOfReplacingIt) {
  fs::create_symlink("/dev/null", folder_ / "device");
  write_file_atomically(folder_ / "device", "text");
  EXPECT_TRUE(fs::is_character_file(folder_ / "device"));
  EXPECT_EQ(names(), std::vector<std::string>{"device"});
  fs::create_symlink("/dev/full", folder_ / "full");
  expect_error(ExitCode::kNoSpace, {"write", "No space"},
               [&] { write_file_atomically(folder_ / "full", "text"); });
  EXPECT_TRUE(fs::is_character_file(folder_ / "full"));
}

}  // namespace
}  // namespace terroir
