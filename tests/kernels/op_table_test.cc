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
    EXPECT_STREQ(error.what(), "op_table: device cuda:1: the CUDA module is not loaded");
  }
}

}  // namespace
}  // namespace terroir
