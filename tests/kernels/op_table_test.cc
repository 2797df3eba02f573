#include "kernels/op_table.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace terroir {
namespace {

TEST(OpTable, SaysThatTheCudaModuleIsNotLoaded) {
  EXPECT_NO_THROW(op_table(Device{}));
  try {
    op_table(Device{DeviceKind::kCuda, 1});
    FAIL() << "a CUDA table without a CUDA module";
  } catch (const SystemError& error) {
    EXPECT_STREQ(error.what(), "CUDA module: not loaded: nothing on this run's way asked for device cuda");
  }
}

}  // namespace
}  // namespace terroir
