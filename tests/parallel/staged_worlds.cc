// Worlds of threads that share a GPU, or the tests' emulation of one, over staged transports. The device is
// the one of TERROIR_TEST_DEVICE: on the CPU staging is not used, which makes these tests as those of
// threads_worlds.cc.
#include <gtest/gtest.h>

#include "parallel/staged_world.h"
#include "tests/kernels/test_device.h"
#include "tests/parallel/device_tensors.h"
#include "tests/parallel/worlds.h"

namespace terroir::test {

void on_every_world(const std::function<void(World&)>& body) {
  const Device device = test_device();
  for (int size = 2; size <= 4; ++size)  // one rank: nothing is sent, and nothing staged
    for (const MessageLimits& limits : {MessageLimits{}, kTinyLimits}) {
      SCOPED_TRACE(fmt::format("{} threads, messages of {} bytes", size, limits.message_bytes));
      run_threads(size, {.timeout_s = 60, .limits = limits}, [&](World& host) {
        const auto staged = staged_world(host, device);
        const auto world = through_device(*staged, device);
        body(*world);
      });
    }
}

}  // namespace terroir::test
