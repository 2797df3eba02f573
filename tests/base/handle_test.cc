#include "base/handle.h"

#include <gtest/gtest.h>

#include <vector>

namespace terroir {
namespace {

std::vector<int> released;  // NOLINT: Traits have no instance to keep it in

struct CountingTraits {
  using type = int;
  static type invalid() { return -1; }
  static void release(type value) noexcept { released.push_back(value); }
};
using CountingHandle = Handle<CountingTraits>;

class HandleTest : public testing::Test {
 protected:
  void SetUp() override { released.clear(); }
};

TEST_F(HandleTest, ReleasesExactlyOnce) {
  {
    CountingHandle first(7);
    CountingHandle second = std::move(first);
    EXPECT_FALSE(first);  // NOLINT: a moved-from handle is empty, that is its contract
    EXPECT_EQ(second.get(), 7);
  }
  EXPECT_EQ(released, std::vector<int>{7});
}

TEST_F(HandleTest, AssignmentReleasesTheOldValue) {
  CountingHandle handle(1);
  handle = CountingHandle(2);
  EXPECT_EQ(released, std::vector<int>{1});
  EXPECT_EQ(handle.get(), 2);
}

TEST_F(HandleTest, AssignmentToItselfKeepsTheValue) {
  CountingHandle handle(1);
  CountingHandle& same = handle;
  handle = std::move(same);
  EXPECT_EQ(handle.get(), 1);
  EXPECT_TRUE(released.empty());
}

TEST_F(HandleTest, EmptyOrGivenUpHandlesReleaseNothing) {
  {
    CountingHandle empty;
    CountingHandle given_up(3);
    EXPECT_EQ(given_up.release(), 3);
    empty.reset();
  }
  EXPECT_TRUE(released.empty());
}

}  // namespace
}  // namespace terroir
