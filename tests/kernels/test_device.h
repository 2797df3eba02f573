// The device that kernel tests run on (see test_tensor.h).
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "kernels/tensor/cuda_module.h"
#include "kernels/tensor/device.h"

namespace terroir::test {

inline Device test_device() {
  static const Device device = [] {
    const char* named = std::getenv("TERROIR_TEST_DEVICE");
    if (named == nullptr || std::string_view(named) == "cpu") return Device{};
    if (std::string_view(named) != "cuda") throw std::invalid_argument("TERROIR_TEST_DEVICE is cpu or cuda");
    load_cuda_module();
    return Device{DeviceKind::kCuda, 0};
  }();
  return device;
}

// One stream for all of a test program, whose tests run one after another.
inline const Stream& test_stream() {
  static const OwnedStream stream(test_device());
  return stream.stream();
}

inline bool on_cuda() { return test_device().kind == DeviceKind::kCuda; }

}  // namespace terroir::test

// For tests of what only the CPU has: threads, instruction sets.
#define TERROIR_CPU_ONLY() \
  if (terroir::test::on_cuda()) GTEST_SKIP() << "of the CPU backend only"
