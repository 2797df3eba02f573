// The pieces `data build` and `data verify` are made of.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <csignal>

#include "data/shard/held_out_rule.h"
#include "data/shard/isolate.h"
#include "data/shard/shard_series.h"
#include "tests/support/expect_error.h"

namespace terroir {
namespace {

TEST(HeldOutRule, HoldsOutTheSameDocumentsWhateverElseIsThere) {
  HeldOutRule few(0.1), many(0.1);
  std::vector<Hash128> contents;
  for (std::uint64_t i = 0; i < 4000; ++i) contents.push_back(xxh3_128(std::as_bytes(std::span(&i, 1))));
  for (std::size_t i = 0; i < contents.size(); ++i) {
    if (i < 1000) few.see(contents[i]);
    many.see(contents[i]);
  }
  int held = 0;
  for (std::size_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(few.holds_out(contents[i]), many.holds_out(contents[i]));
    held += few.holds_out(contents[i]) ? 1 : 0;
  }
  EXPECT_NEAR(held, 100, 40);
}

TEST(HeldOutRule, TakesOneOfTwentyAndNoneOfFewer) {
  HeldOutRule rule(1e-9), none(0);
  std::vector<Hash128> contents;
  const auto count = [&contents](const HeldOutRule& r) {
    return std::count_if(contents.begin(), contents.end(), [&r](const Hash128& c) { return r.holds_out(c); });
  };
  for (std::uint64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(count(rule), 0);
    contents.push_back(xxh3_128(std::as_bytes(std::span(&i, 1))));
    for (int twice = 0; twice < 2; ++twice) rule.see(contents.back());  // duplicates do not count
    none.see(contents.back());
  }
  EXPECT_EQ(count(rule), 1);
  EXPECT_EQ(count(none), 0);
}

TEST(ShardNames, AreRecognizedBySourceExactly) {
  EXPECT_EQ(shard_file_name("ko", kTrainSplit, 3), "ko-00003.h5");
  EXPECT_EQ(shard_file_name("ko", kValidationSplit, 0), "ko-validation-00000.h5");
  for (const char* name : {"ko-00003.h5", "ko-validation-00000.h5", "ko-123456.h5"})
    EXPECT_TRUE(is_shard_of(name, "ko"));
  for (const char* name : {"ko2-00003.h5", "ko-3.h5", "ko-x0003.h5", "ko-news-00000.h5", "ko.h5", "ko", ".h5",
                           "ko-00003.h5.1.tmp"})
    EXPECT_FALSE(is_shard_of(name, "ko")) << name;
}

TEST(RunIsolated, ReturnsTheTextOrTheError) {
  EXPECT_EQ(run_isolated("f", {}, [] { return std::string(100000, 'x'); }), std::string(100000, 'x'));
  expect_error(ExitCode::kCheckpoint, {"a.h5:3: no"}, [] {
    run_isolated("f", {}, []() -> std::string {
      throw UserError(ExitCode::kCheckpoint, Place{"a.h5", 3}, "no");
    });
  });
  expect_error(ExitCode::kNoSpace, {"write", "full"}, [] {
    run_isolated("f", {}, []() -> std::string { throw SystemError("write", "full", ExitCode::kNoSpace); });
  });
}

TEST(RunIsolated, ACrashBecomesARejection) {
  expect_error(ExitCode::kData, {"evil.h5", "rejected", "crashed"}, [] {
    run_isolated("evil.h5", {}, []() -> std::string {
      ::signal(SIGSEGV, SIG_DFL);
      ::raise(SIGSEGV);
      return "";
    });
  });
}

TEST(RunIsolated, StopsEndlessLoopsAndBoundlessMemory) {
  IsolationLimits limits;
  limits.cpu_seconds = 1;
  limits.memory_bytes = std::uint64_t{64} << 20;
  expect_error(ExitCode::kData, {"evil.h5", "rejected", "time limit"}, [&] {
    run_isolated("evil.h5", limits, []() -> std::string {
      const std::atomic<bool> forever = true;
      while (forever) continue;
      return "";
    });
  });
#if !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)  // their allocators do not throw bad_alloc
  expect_error(ExitCode::kData, {"evil.h5", "rejected", "memory"}, [&] {
    run_isolated("evil.h5", limits, [] { return std::string(std::size_t{1} << 30, 'x'); });
  });
#endif
}

}  // namespace
}  // namespace terroir
