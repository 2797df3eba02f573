// Linked into the tests of SIMD kernels: TERROIR_TEST_INSTRUCTION_SET=AVX2 (or AVX3, SCALAR, NEON ...) makes
// them run on that one of Highway's targets instead of the machine's best. Skips where the machine does not
// have it.
#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <cstdlib>
#include <string_view>

namespace terroir::test {
namespace {

std::int64_t target_named(std::string_view name) {
  for (std::int64_t target = 1; target > 0; target <<= 1)
    if (hwy::TargetName(target) == name) return target;
  return 0;
}

class InstructionSet : public testing::Environment {
 public:
  void SetUp() override {
    const char* name = std::getenv("TERROIR_TEST_INSTRUCTION_SET");
    if (name == nullptr) return;
    const std::int64_t target = target_named(name);
    ASSERT_NE(target, 0) << "Highway knows no target " << name;
    const bool usable = (hwy::SupportedTargets() & HWY_TARGETS & target) != 0;
    if (!usable) GTEST_SKIP() << "this machine or this build has no " << name;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().DeInit();  // choose again
  }
};

const auto* const kRegistered = testing::AddGlobalTestEnvironment(new InstructionSet);  // owned by GoogleTest

}  // namespace
}  // namespace terroir::test
