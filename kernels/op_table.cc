#include "kernels/op_table.h"

#include "base/error.h"
#include "kernels/matmul/matmul.h"
#include "kernels/tensor/elementwise.h"

namespace terroir {
namespace {

constexpr OpTable kCpuOps = {
    .copy = cpu::copy,
    .cast = cpu::cast,
    .add = cpu::add,
    .scale = cpu::scale,
    .fill = cpu::fill,
    .matmul = cpu::matmul,
};

}  // namespace

const OpTable& op_table(Device device) {
  if (device.kind == DeviceKind::kCuda)
    throw SystemError("op_table", fmt::format("device cuda:{}: the CUDA module is not loaded", device.index));
  return kCpuOps;
}

}  // namespace terroir
