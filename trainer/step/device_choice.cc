#include "trainer/step/device_choice.h"

#include <fmt/ranges.h>
#include <sys/utsname.h>

#include <array>
#include <map>
#include <numeric>
#include <vector>

#include "kernels/tensor/cuda_module.h"
#include "parallel/staged_world.h"

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

std::vector<int> all_ranks(const World& world) {
  std::vector<int> ranks(static_cast<std::size_t>(world.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

// Whether all ranks can, so that they choose alike.
bool everybody(bool can, World& world) {
  const auto group = world.group(all_ranks(world), Queue::kControl, "devices");
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

// One line for each GPU that several ranks want: "ranks 0 and 2 would share the GPU at 0000:1b:00.0 of
// node7".
std::string shared_gpus(World& host, Device device) {
  constexpr std::int64_t kBytes = 96;
  std::array<char, kBytes> mine{};
  utsname system{};
  ::uname(&system);
  const std::string place =
      fmt::format("{} of {}", device_runtime(device).info(device.index).address, system.nodename);
  place.copy(mine.data(), mine.size() - 1);
  std::vector<char> all(static_cast<std::size_t>(host.size() * kBytes));
  const auto group = host.group(all_ranks(host), Queue::kControl, "GPUs");
  group
      ->all_gather(View(mine.data(), DType::kU8, {1, kBytes}),
                   View(all.data(), DType::kU8, {host.size(), kBytes}), Stream(), "GPUs")
      .wait();
  std::map<std::string, std::vector<int>> ranks_at;
  for (int rank = 0; rank < host.size(); ++rank) ranks_at[all.data() + rank * kBytes].push_back(rank);
  std::string shared;
  for (const auto& [gpu, ranks] : ranks_at)
    if (ranks.size() > 1)
      shared += fmt::format("{}ranks {} would share the GPU at {}", shared.empty() ? "" : "; ",
                            fmt::join(ranks, ", "), gpu);
  return shared;
}

}  // namespace

Device choose_device(const std::string& wanted) {
  if (wanted == "cpu") return {};
  const std::string why = obstacle();
  if (why.empty()) return {DeviceKind::kCuda, 0};
  if (wanted == "cuda") throw UserError(ExitCode::kUsage, Place{.key = "--device"}, why);
  return {};
}

std::unique_ptr<World> device_world(const Config& config, World& host, Device device) {
  if (device.kind == DeviceKind::kCpu) return nullptr;
  const bool alone = host.size() == 1 && config.parallel.transport == "auto";  // nothing to carry
  if (alone || config.parallel.transport == "host") return staged_world(host, device);
  if (const std::string shared = shared_gpus(host, device); !shared.empty())
    throw UserError(
        ExitCode::kUsage, Place{.key = "parallel.transport"},
        shared + ": NCCL needs one each; start fewer ranks a machine, or give parallel.transport=host");
  using Make = std::unique_ptr<World>* (*)(World&, Device, const WorldOptions&);
  const auto make = reinterpret_cast<Make>(cuda_module_symbol("terroir_nccl_world"));
  if (make == nullptr)
    throw UserError(ExitCode::kUsage, Place{.key = "parallel.transport"},
                    "the CUDA module was built without NCCL: give parallel.transport=host");
  const std::unique_ptr<std::unique_ptr<World>> made(
      make(host, device, {.timeout_s = config.parallel.timeout_s}));
  return std::move(*made);
}

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
