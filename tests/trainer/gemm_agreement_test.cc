// What ranks with lists of their own agree on. No GPU: the lists are made up.
#include "trainer/step/gemm_agreement.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/file.h"
#include "parallel/world.h"
#include "tests/support/temporary_folder.h"

namespace terroir {
namespace {

GemmChoice choice(const std::string& key, std::uint64_t algorithm) { return {key, to_hex({algorithm}), 1}; }

struct Agreement {
  std::vector<GemmChoiceList> lists;  // what each rank got
  std::string log;                    // rank 0's
};

Agreement agree(const std::vector<GemmChoiceList>& made, const GemmChoiceList& stored) {
  TemporaryFolder folder;
  std::vector<int> ranks(made.size());
  std::iota(ranks.begin(), ranks.end(), 0);
  Agreement agreement{std::vector<GemmChoiceList>(made.size()), ""};
  run_threads(static_cast<int>(made.size()), {.timeout_s = 60}, [&](World& world) {
    const auto rank = static_cast<std::size_t>(world.rank());
    Logger log(world.rank(), world.rank() == 0 ? folder / "log" : "", true);
    GemmChoices choices;
    choices.num_candidates = 8;
    choices.made = made[rank];
    const auto control = world.group(ranks, Queue::kControl, "control");
    agreement.lists[rank] = agree_on_gemm_choices(choices, stored, *control, log);
    EXPECT_EQ(choices.num_candidates, 1);
    for (const GemmChoice& agreed : agreement.lists[rank].choices)
      EXPECT_EQ(choices.wanted(agreement.lists[rank].library, agreed.key), agreed);
  });
  agreement.log = read_file(folder / "log");
  return agreement;
}

TEST(GemmAgreement, TheLowestRankThatMetAProductDecides) {
  const GemmChoiceList expected = {"lib", {choice("x", 1), choice("y", 2), choice("z", 3)}};
  const Agreement agreement = agree({{"lib", {choice("x", 1)}},
                                     {"lib", {choice("x", 9), choice("y", 2)}},
                                     {"lib", {choice("y", 9), choice("z", 3), choice("x", 8)}}},
                                    {});
  EXPECT_EQ(agreement.lists, std::vector(3, expected));
  EXPECT_EQ(agreement.log.find("matrix product"), std::string::npos);
}

TEST(GemmAgreement, WhatThisLayoutDoesNotMeetIsKept) {
  const GemmChoiceList stored = {"lib", {choice("of another layout", 4), choice("x", 1)}};
  const GemmChoiceList expected = {"lib", {choice("x", 1), choice("y", 2), choice("of another layout", 4)}};
  EXPECT_EQ(agree({{"lib", {choice("x", 1)}}, {"lib", {choice("y", 2)}}}, stored).lists,
            std::vector(2, expected));
}

TEST(GemmAgreement, AReplacedChoiceAndAnotherLibraryAreSaidOnce) {
  const GemmChoiceList now = {"lib 2", {choice("x", 2)}};
  EXPECT_NE(agree({now}, {"lib 2", {choice("x", 1)}}).log.find("matrix product x: another algorithm"),
            std::string::npos);
  const Agreement moved = agree({now, now}, {"lib 1", {choice("x", 1), choice("v", 1)}});
  EXPECT_NE(moved.log.find("computed by lib 1, now by lib 2"), std::string::npos);
  EXPECT_EQ(moved.lists, std::vector(2, now));
}

TEST(GemmAgreement, RanksOfAnotherGpuAreNamed) {
  const GemmChoiceList ours = {"lib on H100", {choice("x", 1)}}, theirs = {"lib on A100", {choice("x", 2)}};
  const Agreement agreement = agree({ours, theirs, ours, theirs}, {});
  EXPECT_EQ(agreement.lists, std::vector(4, ours));
  EXPECT_NE(agreement.log.find("ranks 1, 3 compute matrix products by lib on A100, others by lib on H100"),
            std::string::npos);
}

TEST(GemmAgreement, WhereNobodyChoosesNothingIsSaid) {
  const Agreement agreement = agree({{}, {}}, {});
  EXPECT_EQ(agreement.lists, std::vector(2, GemmChoiceList{}));
  EXPECT_EQ(agreement.log.find("matrix"), std::string::npos);
}

}  // namespace
}  // namespace terroir
