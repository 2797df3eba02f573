// mma, ldmatrix and cp.async. The fragment layouts are written here once more, from the PTX ISA's formulas.
#include <gtest/gtest.h>

#include <random>

#include "tests/cuda_on_cpu/device_array.h"
#include "tests/cuda_on_cpu/schedule.h"

namespace cuda_on_cpu {
namespace {

using terroir::cuda::cp_async_16;
using terroir::cuda::cp_async_commit;
using terroir::cuda::cp_async_wait;
using terroir::cuda::ldmatrix_x4;
using terroir::cuda::ldmatrix_x4_trans;
using terroir::cuda::mma_m16n8k16_bf16;

// PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type": element i of a lane's fragment.
struct Place {
  int row, column;
};
Place place_in_a(int lane, int i) {
  const int group = lane >> 2, in_group = lane & 3;
  const bool upper = (0 <= i && i < 2) || (4 <= i && i < 6);
  return {upper ? group : group + 8, in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
}
Place place_in_b(int lane, int i) {
  const int group = lane >> 2, in_group = lane & 3;
  return {in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0), group};
}
Place place_in_d(int lane, int i) {
  const int group = lane >> 2, in_group = lane & 3;
  return {i < 2 ? group : group + 8, in_group * 2 + (i & 1)};
}

std::uint16_t bits_of(float value) { return __bfloat16_as_ushort(__float2bfloat16_rn(value)); }
float value_of(std::uint16_t bits) { return __bfloat162float(__ushort_as_bfloat16(bits)); }

// Small integers: their products and sums are exact in any order.
std::vector<std::uint16_t> random_integers(std::size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<std::uint16_t> values;
  for (std::size_t i = 0; i < count; ++i)
    values.push_back(bits_of(static_cast<float>(static_cast<int>(generator() % 33) - 16)));
  return values;
}

__global__ void multiply_fragments(const unsigned* a, const unsigned* b, float* d) {
  const int lane = threadIdx.x;
  unsigned fragment_a[4], fragment_b[2];
  float sums[4];
  for (int i = 0; i < 4; ++i) fragment_a[i] = a[4 * lane + i];
  for (int i = 0; i < 2; ++i) fragment_b[i] = b[2 * lane + i];
  for (int i = 0; i < 4; ++i) sums[i] = d[4 * lane + i];
  mma_m16n8k16_bf16(sums, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) d[4 * lane + i] = sums[i];
}

TEST(TensorCore, MmaAddsThePlainProductOfWhatTheFragmentsHold) {
  const auto a = random_integers(16 * 16, 1), b = random_integers(16 * 8, 2);  // [16][16], [16][8]
  std::vector<unsigned> fragments_a(32 * 4), fragments_b(32 * 2);
  std::vector<float> d(32 * 4);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 8; ++i) {
      const auto [row, column] = place_in_a(lane, i);
      fragments_a[4 * lane + i / 2] |= static_cast<unsigned>(a[16 * row + column]) << (16 * (i % 2));
    }
    for (int i = 0; i < 4; ++i) {
      const auto [row, column] = place_in_b(lane, i);
      fragments_b[2 * lane + i / 2] |= static_cast<unsigned>(b[8 * row + column]) << (16 * (i % 2));
      d[4 * lane + i] = static_cast<float>(1000 * lane + i);
    }
  }
  DeviceArray<unsigned> device_a(fragments_a), device_b(fragments_b);
  DeviceArray<float> device_d(d);
  run_kernel(multiply_fragments, 1, 32, 0, device_a.data(), device_b.data(), device_d.data());
  const auto got = device_d.values();
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const auto [row, column] = place_in_d(lane, i);
      float wanted = d[4 * lane + i];
      for (int k = 0; k < 16; ++k) wanted += value_of(a[16 * row + k]) * value_of(b[8 * k + column]);
      ASSERT_EQ(got[4 * lane + i], wanted) << "row " << row << ", column " << column;
    }
}

// Four 8x8 matrices, one below the other: [32][8].
__global__ void load_matrices(const std::uint16_t* in, unsigned* out, bool transposed) {
  DYNAMIC_SHARED(std::uint16_t, rows);
  const int lane = threadIdx.x;
  for (int column = 0; column < 8; ++column) rows[8 * lane + column] = in[8 * lane + column];
  __syncwarp();
  unsigned fragment[4];
  if (transposed)
    ldmatrix_x4_trans(fragment, rows + 8 * lane);
  else
    ldmatrix_x4(fragment, rows + 8 * lane);
  for (int matrix = 0; matrix < 4; ++matrix) out[4 * lane + matrix] = fragment[matrix];
}

TEST(TensorCore, LdmatrixGivesEachLaneTwoNeighboursOfItsRow) {
  std::vector<std::uint16_t> in(256);
  for (int i = 0; i < 256; ++i) in[i] = static_cast<std::uint16_t>(i);
  const DeviceArray<std::uint16_t> device_in(in);
  for (const bool transposed : {false, true}) {
    DeviceArray<unsigned> out(128);
    run_kernel(load_matrices, 1, 32, 512, device_in.data(), out.data(), transposed);
    const auto values = out.values();
    for (int lane = 0; lane < 32; ++lane)
      for (int matrix = 0; matrix < 4; ++matrix) {
        const int row = lane / 4, column = 2 * (lane % 4);
        const int low = transposed ? 8 * column + row : 8 * row + column;
        const int high = transposed ? 8 * (column + 1) + row : 8 * row + column + 1;
        ASSERT_EQ(values[4 * lane + matrix],
                  static_cast<unsigned>((64 * matrix + low) | (64 * matrix + high) << 16));
      }
  }
}

// c[16][8] = a[16][32] b[32][8] as a kernel does it: tiles of k = 16 by cp.async into two buffers, fragments
// by ldmatrix (b by rows, so transposed), products by mma.
__global__ void multiply_tiles(const std::uint16_t* a, const std::uint16_t* b, float* c) {
  DYNAMIC_SHARED(std::uint16_t, tiles);  // [2] of a [16][16] and b [16][8]
  const int lane = threadIdx.x;
  constexpr int kTile = 16 * 16 + 16 * 8;
  const auto fetch = [&](int k, std::uint16_t* tile) {
    cp_async_16(tile + 8 * lane, a + 32 * (lane / 2) + 16 * k + 8 * (lane % 2));
    if (lane < 16) cp_async_16(tile + 256 + 8 * lane, b + 8 * (16 * k + lane));
    cp_async_commit();
  };
  fetch(0, tiles);
  fetch(1, tiles + kTile);
  float sums[4] = {};
  for (int k = 0; k < 2; ++k) {
    if (k == 0)
      cp_async_wait<1>();
    else
      cp_async_wait<0>();
    __syncwarp();
    const std::uint16_t* tile = tiles + k * kTile;
    unsigned fragment_a[4], fragment_b[4];
    // Matrices 0..3 of a: rows 0-7 and 8-15 of columns 0-7, then of 8-15.
    ldmatrix_x4(fragment_a, tile + 16 * (lane % 16) + 8 * (lane / 16));
    ldmatrix_x4_trans(fragment_b, tile + 256 + 8 * (lane % 16));
    const unsigned of_b[2] = {fragment_b[0], fragment_b[1]};
    mma_m16n8k16_bf16(sums, fragment_a, of_b);
  }
  const int row = lane / 4, column = 2 * (lane % 4);
  for (int i = 0; i < 4; ++i) c[8 * (row + i / 2 * 8) + column + i % 2] = sums[i];
}

TEST(TensorCore, TilesThroughAsyncCopiesMultiplyMatricesUnderEverySchedule) {
  const auto a = random_integers(16 * 32, 3), b = random_integers(32 * 8, 4);
  const DeviceArray<std::uint16_t> device_a(a), device_b(b);
  for_each_schedule([&](const Schedule& schedule) {
    DeviceArray<float> c(16 * 8);
    run_kernel(multiply_tiles, 1, 32, 2 * 2 * (256 + 128), device_a.data(), device_b.data(), c.data());
    const auto got = c.values();
    for (int row = 0; row < 16; ++row)
      for (int column = 0; column < 8; ++column) {
        float wanted = 0;
        for (int k = 0; k < 32; ++k) wanted += value_of(a[32 * row + k]) * value_of(b[8 * k + column]);
        ASSERT_EQ(got[8 * row + column], wanted) << schedule.text();
      }
  });
}

// Three groups of one copy each; out: what each destination holds after each wait.
__global__ void copy_in_groups(const uint4* in, uint4* out) {
  __shared__ uint4 slots[3];
  for (int i = 0; i < 3; ++i) {
    slots[i] = make_uint4(1, 1, 1, 1);
    cp_async_16(&slots[i], i == 1 ? nullptr : &in[i], i != 1);
    cp_async_commit();
  }
  for (int i = 0; i < 3; ++i) out[i] = slots[i];
  cp_async_wait<2>();
  for (int i = 0; i < 3; ++i) out[3 + i] = slots[i];
  cp_async_wait<0>();
  for (int i = 0; i < 3; ++i) out[6 + i] = slots[i];
}

TEST(AsyncCopy, IsVisibleAfterTheWaitForItsGroupAndPoisonBefore) {
  const DeviceArray<uint4> in(
      {make_uint4(10, 11, 12, 13), make_uint4(0, 0, 0, 0), make_uint4(30, 31, 32, 33)});
  DeviceArray<uint4> out(9);
  run_kernel(copy_in_groups, 1, 1, 0, in.data(), out.data());
  std::vector<unsigned> first;
  for (const uint4& value : out.values()) first.push_back(value.x);
  EXPECT_EQ(first, (std::vector<unsigned>{~0U, ~0U, ~0U, 10, ~0U, ~0U, 10, 0, 30}));
}

__global__ void wait_without_commit(const uint4* in, uint4* out) {
  __shared__ uint4 slot;
  cp_async_16(&slot, in);
  cp_async_wait<0>();
  *out = slot;
}

TEST(AsyncCopy, ThatIsNotCommittedIsNotWaitedFor) {
  const DeviceArray<uint4> in({make_uint4(1, 2, 3, 4)});
  DeviceArray<uint4> out(1);
  run_kernel(wait_without_commit, 1, 1, 0, in.data(), out.data());
  EXPECT_EQ(out.values()[0].x, ~0U);
}

__global__ void copy_misaligned(const char* in) {
  DYNAMIC_SHARED(char, shared);
  cp_async_16(shared, in + 4);
}
__global__ void load_misaligned() {
  DYNAMIC_SHARED(char, shared);
  unsigned fragment[4];
  ldmatrix_x4(fragment, shared + 8 * threadIdx.x);
}

TEST(AsyncCopy, OfAMisalignedAddressFails) {
  const DeviceArray<char> in(64);
  EXPECT_NE(error_of_kernel(copy_misaligned, 1, 1, 64, in.data()).find("tensor_core_test.cu:"),
            std::string::npos);
}
TEST(TensorCore, LdmatrixOfAMisalignedRowFails) {
  EXPECT_NE(error_of_kernel(load_misaligned, 1, 32, 512).find("ldmatrix of a misaligned row"),
            std::string::npos);
}

}  // namespace
}  // namespace cuda_on_cpu
