#include "trainer/step/device_choice.h"

#include <numeric>
#include <vector>

#include "kernels/tensor/cuda_module.h"

namespace terroir {
namespace {

// Empty: this rank can use CUDA. Otherwise why not.
std::string obstacle() {
  try {
    const CudaModule& module = load_cuda_module();
    return module.runtime->num_devices() > 0 ? "" : "there is no CUDA device";
  } catch (const SystemError& error) {
    return error.what();
  }
}

// Whether all ranks can, so that they choose alike.
bool everybody(bool can, World& world) {
  std::vector<int> ranks(static_cast<std::size_t>(world.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  const auto group = world.group(ranks, Queue::kControl, "devices");
  std::int64_t missing = can ? 0 : 1;
  group->all_reduce(View(&missing, DType::kI64, {1}), ReduceOp::kSum, Stream(), "devices").wait();
  return missing == 0;
}

Device resolve(Config& config, World& world, std::string& why) {
  if (config.device != "cpu") {
    why = obstacle();
    const bool all = everybody(why.empty(), world);
    if (all) {
      config.device = "cuda";
      return {DeviceKind::kCuda, world.local_rank() % cuda_module().runtime->num_devices()};
    }
    if (why.empty()) why = "another rank cannot use CUDA";
    if (config.device == "cuda") throw UserError(ExitCode::kUsage, Place{.key = "device"}, why);
  }
  config.device = "cpu";
  return {};
}

}  // namespace

DeviceChoice choose_device(Config& config, World& world) {
  DeviceChoice choice;
  std::string why;
  choice.device = resolve(config, world, why);
  const bool cuda = choice.device.kind == DeviceKind::kCuda;
  if (config.precision.compute == "auto") config.precision.compute = cuda ? "bf16" : "f32";
  if (cuda) {
    const DeviceInfo info = device_runtime(choice.device).info(choice.device.index);
    choice.description = fmt::format("cuda:{}, {} at {}", choice.device.index, info.name, info.address);
  } else {
    choice.description = why.empty() ? "cpu" : fmt::format("cpu ({})", why);
  }
  return choice;
}

}  // namespace terroir
