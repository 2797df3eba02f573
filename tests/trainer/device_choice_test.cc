// Which ranks get which GPU, on emulated ones.
#include "trainer/step/device_choice.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"

namespace terroir::test {
namespace {

constexpr int kGpus = 2;  // TERROIR_EMULATED_GPUS

Config config_with(const char* transport) {
  Config config;
  config.device = "cuda";
  config.parallel.transport = transport;
  return config;
}

TEST(DeviceChoice, NcclRefusesRanksThatShareAGpuAndNamesThemAndTheGpu) {
  for (const char* transport : {"nccl", "auto"})
    run_threads(3, {.timeout_s = 60}, [&](World& world) {
      Config config = config_with(transport);
      const DeviceChoice choice = choose_device(config, world);
      EXPECT_EQ(choice.device.index, world.rank() % kGpus);
      expect_error(ExitCode::kUsage,
                   {"parallel.transport", "ranks 0, 2 would share the GPU at 0000:01:00.0 of ",
                    "NCCL needs one each", "parallel.transport=host"},
                   [&] { device_world(config, world, choice.device); });
    });
}

TEST(DeviceChoice, EveryGpuThatIsSharedIsListed) {
  run_threads(4, {.timeout_s = 60}, [](World& world) {
    Config config = config_with("nccl");
    const Device device = choose_device(config, world).device;
    expect_error(ExitCode::kUsage,
                 {"ranks 0, 2 would share the GPU at 0000:01:00.0",
                  "; ranks 1, 3 would share the GPU at 0000:02:00.0"},
                 [&] { device_world(config, world, device); });
  });
}

TEST(DeviceChoice, ARankForEachGpuGetsNccl) {
  for (const char* transport : {"nccl", "auto"})
    run_threads(kGpus, {.timeout_s = 60}, [&](World& world) {
      Config config = config_with(transport);
      const Device device = choose_device(config, world).device;
      EXPECT_EQ(device_world(config, world, device)->transport(), "nccl");
    });
}

TEST(DeviceChoice, RanksMayShareAGpuThroughTheHost) {
  run_threads(3, {.timeout_s = 60}, [](World& world) {
    Config config = config_with("host");
    const Device device = choose_device(config, world).device;
    EXPECT_EQ(device_world(config, world, device)->transport(), "threads, staged");
  });
}

}  // namespace
}  // namespace terroir::test
