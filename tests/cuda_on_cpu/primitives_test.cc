// The pieces of the execution model against what the CUDA programming guide and the PTX ISA say of them.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/cuda/runtime.h"
#include "kernels/tensor/bfloat16.h"
#include "tests/cuda_on_cpu/primitives.h"

namespace terroir::cuda {
namespace {

class Primitives : public testing::Test {
 protected:
  Primitives() : stream_({DeviceKind::kCuda, 0}, runtime_.create_stream(0)) {}
  ~Primitives() override {
    for (void* memory : taken_) runtime_.free(0, memory);
    runtime_.destroy_stream(stream_.native());
  }
  template <class T>
  T* on_device(const std::vector<T>& values) {
    void* memory = runtime_.allocate(0, static_cast<std::int64_t>(values.size() * sizeof(T)));
    taken_.push_back(memory);
    runtime_.transfer(memory, true, values.data(), false,
                      static_cast<std::int64_t>(values.size() * sizeof(T)), stream_.native());
    return static_cast<T*>(memory);
  }
  template <class T>
  std::vector<T> to_host(const T* memory, std::size_t count) {
    std::vector<T> values(count);
    runtime_.transfer(values.data(), false, memory, true, static_cast<std::int64_t>(count * sizeof(T)),
                      stream_.native());
    runtime_.synchronize_stream(stream_.native());
    return values;
  }
  Runtime runtime_;
  Stream stream_;
  std::vector<void*> taken_;
};

TEST_F(Primitives, TensorCoreTileIsTheProduct) {
  std::mt19937 random(1);
  const auto matrix = [&](std::size_t count) {
    std::vector<BFloat16> values(count);
    for (BFloat16& value : values)
      value = from_float<BFloat16>(static_cast<float>(random() % 2001) / 1000 - 1);
    return values;
  };
  const std::vector<BFloat16> a = matrix(256), b = matrix(128);
  float* d = on_device(std::vector<float>(128, NAN));
  tile_product(stream_, on_device(a), on_device(b), d);
  const std::vector<float> result = to_host(d, 128);
  for (std::size_t row = 0; row < 16; ++row)
    for (std::size_t column = 0; column < 8; ++column) {
      double sum = 0;
      for (std::size_t k = 0; k < 16; ++k)
        sum +=
            static_cast<double>(to_float(a[row * 16 + k])) * static_cast<double>(to_float(b[k * 8 + column]));
      EXPECT_NEAR(result[row * 8 + column], sum, 1e-5) << row << ", " << column;
    }
}

TEST_F(Primitives, LanesSeeEachOther) {
  constexpr int kThreads = 64;
  int* out = on_device(std::vector<int>(7 * kThreads, -1));
  exchanges(stream_, kThreads, out);
  const std::vector<int> got = to_host(out, 7 * kThreads);
  for (int thread = 0; thread < kThreads; ++thread) {
    const int lane = thread % 32;
    const auto at = [&](int which) { return got[static_cast<std::size_t>(which * kThreads + thread)]; };
    EXPECT_EQ(at(0), 50);
    EXPECT_EQ(at(1), lane ^ 3);
    EXPECT_EQ(at(2), lane + 4 < 32 ? lane + 4 : lane);     // beyond the end: its own
    EXPECT_EQ(at(3), lane % 8 >= 4 ? lane - 4 : lane);     // within segments of 8
    EXPECT_EQ(static_cast<unsigned>(at(4)), 0x49249249U);  // every third bit
    EXPECT_EQ(at(5), 3);
    EXPECT_EQ(at(6), kThreads / 2);
  }
}

TEST_F(Primitives, Bf16IsRoundedAsOnAGpu) {
  const auto bits = [](float value) { return __float2bfloat16_rn(value).bits; };
  EXPECT_EQ(bits(1.0F), 0x3F80);
  EXPECT_EQ(bits(__uint_as_float(0x3F808000)), 0x3F80);  // half way: to even
  EXPECT_EQ(bits(__uint_as_float(0x3F818000)), 0x3F82);
  EXPECT_EQ(bits(__uint_as_float(0x3F808001)), 0x3F81);
  EXPECT_EQ(bits(INFINITY), 0x7F80);
  EXPECT_EQ(bits(3.4e38F), 0x7F80);
  EXPECT_EQ(bits(-NAN), 0x7FFF);
  for (std::uint32_t i = 0; i < 0x10000; ++i) {  // bf16 to f32 and back
    const float value = __bfloat162float({static_cast<std::uint16_t>(i)});
    if (!std::isnan(value)) {
      EXPECT_EQ(bits(value), i);
    }
  }
}

}  // namespace
}  // namespace terroir::cuda
