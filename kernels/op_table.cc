#include "kernels/op_table.h"

#include "base/error.h"

namespace terroir {
namespace {

constexpr OpTable kCpuOps = {
};

}  // namespace

const OpTable& op_table(Device device) {
  if (device.kind == DeviceKind::kCuda)
    throw SystemError("op_table", fmt::format("device cuda:{}: the CUDA module is not loaded", device.index));
  return kCpuOps;
}

}  // namespace terroir
