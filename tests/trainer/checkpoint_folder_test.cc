// What stands on disk after saves that are interrupted, fail or are followed by others.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>

#include "base/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/save_state.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/manifest.h"

namespace terroir {
namespace {

namespace fs = std::filesystem;
using test::filled;
using test::meta_at;
using test::random_layout;
using test::RankState;
using test::save;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

using Names = std::vector<std::string>;

std::int64_t newest_step(const fs::path& folder) {
  const auto newest = newest_valid_checkpoint(folder);
  return newest ? read_checkpoint_meta(*newest).step : -1;
}

bool loads(const fs::path& checkpoint) {
  const std::vector<RankState> layout = random_layout(1, 77);
  load_checkpoint(checkpoint, layout[0].slices());
  return layout[0].num_wrong() == 0;
}

// Runs `body` in a child process that must end by SIGKILL.
void expect_killed(const std::function<void()>& body) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    body();
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "status " << status;
}

SaveProbe kill_at(SavePoint point) {
  return [point](SavePoint here) {
    if (here == point) ::kill(::getpid(), SIGKILL);
  };
}

struct KillPoint {
  SavePoint point;
  std::int64_t newest;  // the step that counts afterwards, when 1 was saved and the save of 2 is killed
};
const KillPoint kKillPoints[] = {{SavePoint::kAfterWrite, 1},
                                 {SavePoint::kAfterFsync, 1},
                                 {SavePoint::kBeforeRename, 1},
                                 {SavePoint::kAfterRename, 2}};

TEST(KilledSave, LeavesAWholeCheckpointAndIsSweptAway) {
  for (const KillPoint& item : kKillPoints) {
    TemporaryFolder folder;
    const std::vector<RankState> layout = filled(random_layout(1, 5));
    save(folder.path(), meta_at(1), layout);
    expect_killed([&] { save(folder.path(), meta_at(2), layout, {}, kill_at(item.point)); });
    EXPECT_EQ(newest_step(folder.path()), item.newest) << static_cast<int>(item.point);
    EXPECT_TRUE(loads(*newest_valid_checkpoint(folder.path())));
    save(folder.path(), meta_at(2), layout);  // what lies about does not hinder the next
    keep_last(folder.path(), 1);
    EXPECT_EQ(names_in(folder.path()), Names{"step-00000002"});
    EXPECT_TRUE(loads(folder / "step-00000002"));
  }
}

TEST(KilledSave, WhileReplacingAStepKeepsAnEarlierOne) {
  for (const KillPoint& item : kKillPoints) {
    TemporaryFolder folder;
    const std::vector<RankState> layout = filled(random_layout(1, 5));
    save(folder.path(), meta_at(1), layout);
    save(folder.path(), meta_at(2), layout);
    expect_killed([&] { save(folder.path(), meta_at(2), layout, {}, kill_at(item.point)); });
    EXPECT_GE(newest_step(folder.path()), 1);
    EXPECT_TRUE(loads(*newest_valid_checkpoint(folder.path())));
  }
}

TEST(KilledDeletion, LeavesNoHalfCheckpointUnderItsName) {
  TemporaryFolder folder;
  for (const std::int64_t step : {1, 2, 3}) save(folder.path(), meta_at(step), filled(random_layout(1, 5)));
  expect_killed([&] { keep_last(folder.path(), 2, kill_at(SavePoint::kDuringDelete)); });
  EXPECT_EQ(names_in(folder.path()), (Names{"step-00000001.tmp", "step-00000002", "step-00000003"}));
  keep_last(folder.path(), 2);
  EXPECT_EQ(names_in(folder.path()), (Names{"step-00000002", "step-00000003"}));
}

TEST(KeepLast, SaysWhatItCouldNotRemoveAndLeavesTheNewest) {
  TemporaryFolder folder;
  for (const std::int64_t step : {1, 2}) save(folder.path(), meta_at(step), filled(random_layout(1, 5)));
  const auto failing = [](SavePoint) { throw SystemError("unlink", "Operation not permitted"); };
  EXPECT_EQ(keep_last(folder.path(), 1, failing), "unlink: Operation not permitted");
  EXPECT_TRUE(loads(folder / "step-00000002"));
  EXPECT_EQ(keep_last(folder.path(), 1), std::nullopt);
}

TEST(Save, ReplacesACheckpointOfTheSameStep) {
  TemporaryFolder folder;
  std::vector<RankState> layout = random_layout(2, 5);  // every element -1
  save(folder.path(), meta_at(1), layout);
  EXPECT_FALSE(loads(folder / "step-00000001"));
  save(folder.path(), meta_at(1), filled(random_layout(3, 6)));
  EXPECT_TRUE(loads(folder / "step-00000001"));
  EXPECT_EQ(names_in(folder.path()), Names{"step-00000001"});
}

TEST(KeepLast, CountsOnlyWholeCheckpoints) {
  TemporaryFolder folder;
  for (const std::int64_t step : {1, 2, 3, 4})
    save(folder.path(), meta_at(step), filled(random_layout(1, 5)));
  fs::resize_file(folder / "step-00000003/rank-00000.safetensors", 10);
  keep_last(folder.path(), 0);
  EXPECT_EQ(names_in(folder.path()).size(), 4U);
  keep_last(folder.path(), 2);  // 4 and 2 count; 3 is left for a person to look at
  EXPECT_EQ(names_in(folder.path()), (Names{"step-00000002", "step-00000003", "step-00000004"}));
}

TEST(NewestValid, PassesOverDamageAndSaysWhy) {
  TemporaryFolder folder;
  for (const std::int64_t step : {1, 2, 3, 4, 5})
    save(folder.path(), meta_at(step), filled(random_layout(1, 5)));
  fs::remove(folder / "step-00000005/manifest.json");
  fs::remove(folder / "step-00000004/rank-00000.safetensors");
  fs::resize_file(folder / "step-00000003/rank-00000.safetensors", 10);
  fs::resize_file(folder / "step-00000002/manifest.json", 100);
  fs::create_directory(folder / "step-9");  // not a name this program gives
  std::vector<std::string> reasons;
  const auto newest =
      newest_valid_checkpoint(folder.path(), [&](const fs::path& path, const std::string& reason) {
        reasons.push_back(path.filename().string() + " " + reason);
      });
  ASSERT_TRUE(newest.has_value());
  EXPECT_EQ(newest->filename(), "step-00000001");
  ASSERT_EQ(reasons.size(), 4U);
  const std::vector<std::string> words{"has no manifest.json", "No such file", "has 10 bytes",
                                       "does not match its own hash"};
  for (std::size_t i = 0; i < words.size(); ++i)
    EXPECT_NE(reasons[i].find(words[i]), std::string::npos) << reasons[i];
  EXPECT_EQ(newest_valid_checkpoint(folder / "none"), std::nullopt);
}

TEST(Resolve, TakesAStepFolderARunFolderOrItsCheckpoints) {
  TemporaryFolder folder;
  save(folder / "checkpoints", meta_at(1), filled(random_layout(1, 5)));
  const fs::path step = folder / "checkpoints/step-00000001";
  EXPECT_EQ(resolve_checkpoint(step), step);
  EXPECT_EQ(resolve_checkpoint(folder.path()), step);
  EXPECT_EQ(resolve_checkpoint(folder / "checkpoints"), step);
  expect_error(ExitCode::kCheckpoint, {"none", "holds no complete checkpoint"},
               [&] { resolve_checkpoint(folder / "none"); });
  fs::resize_file(step / "manifest.json", 30);
  expect_error(ExitCode::kCheckpoint, {"holds no complete checkpoint", "too short for a manifest"},
               [&] { resolve_checkpoint(folder.path()); });
}

// One rank fails, the others must not wait for it, all must throw.
void expect_all_ranks_throw(const fs::path& folder, const std::vector<RankState>& layout,
                            ExitCode exit_code) {
  std::atomic<int> thrown{0};
  run_threads(static_cast<int>(layout.size()), {}, [&](World& world) {
    const auto control = world.group({0, 1, 2}, Queue::kControl, "control");
    try {
      save_checkpoint(folder, meta_at(2), layout[static_cast<std::size_t>(world.rank())].slices(), {},
                      *control);
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), exit_code) << error.what();
      ++thrown;
    }
  });
  EXPECT_EQ(thrown, 3);
}

// A state of which rank 2 holds much more than the others.
std::vector<RankState> uneven_layout() {
  std::vector<RankState> layout(3);
  for (std::int64_t rank = 0; rank < 3; ++rank)
    layout[static_cast<std::size_t>(rank)].add(
        whole_slice(fmt::format("t{}", rank), "weight", {rank == 2 ? 1 << 16 : 16}, nullptr));
  return filled(std::move(layout));
}

TEST(FullDisk, OneRankWithoutSpaceEndsTheSaveOnAllWithExitFive) {
  TemporaryFolder folder;
  save(folder.path(), meta_at(1), filled(random_layout(1, 5)));
  // A limit on file sizes stands for the full disk: the same error class, no privileges needed.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{1 << 15, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  expect_all_ranks_throw(folder.path(), uneven_layout(), ExitCode::kNoSpace);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(names_in(folder.path()), Names{"step-00000001"});
  EXPECT_TRUE(loads(folder / "step-00000001"));
}

TEST(FullDisk, ASmallFileSystemKeepsItsLastGoodCheckpoint) {
  TemporaryFolder folder;
  if (::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=128k") != 0)
    GTEST_SKIP() << "mounting a small file system needs root";
  save(folder.path(), meta_at(1), filled(random_layout(1, 5)));
  expect_all_ranks_throw(folder.path(), uneven_layout(), ExitCode::kNoSpace);
  EXPECT_EQ(names_in(folder.path()), Names{"step-00000001"});
  EXPECT_TRUE(loads(folder / "step-00000001"));
  EXPECT_EQ(::umount(folder.path().c_str()), 0);
}

TEST(FailedSave, OnOneRankIsHeardOnAllAndLeavesNothing) {
  TemporaryFolder folder;
  std::atomic<int> writers{0};
  const SaveProbe probe = [&](SavePoint point) {
    if (point == SavePoint::kAfterWrite && ++writers == 2) throw SystemError("write", "broken on purpose");
  };
  EXPECT_THROW(save(folder.path(), meta_at(1), filled(random_layout(3, 5)), {}, probe), SystemError);
  EXPECT_EQ(names_in(folder.path()), Names{});
}

}  // namespace
}  // namespace terroir
