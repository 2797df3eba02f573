#include <gtest/gtest.h>

#include <cstring>
#include <utility>

#include "kernels/tensor/buffer.h"
#include "kernels/tensor/runs.h"
#include "kernels/tensor/view.h"
#include "tests/kernels/expect_refused.h"

namespace terroir::test {
namespace {

TEST(View, IsRowMajorAndContiguousWhenMadeFromAShape) {
  float data[24] = {};
  const View view(data, DType::kF32, {2, 3, 4});
  EXPECT_EQ(view.rank(), 3);
  EXPECT_EQ(view.numel(), 24);
  EXPECT_EQ(view.bytes(), 96);
  EXPECT_EQ(view.stride(0), 12);
  EXPECT_EQ(view.stride(1), 4);
  EXPECT_EQ(view.stride(2), 1);
  EXPECT_TRUE(view.is_contiguous());
  EXPECT_EQ(view.describe(), "f32[2, 3, 4]");
}

TEST(View, SliceKeepsStridesAndMovesTheBeginning) {
  std::int32_t data[12] = {};
  const View columns = View(data, DType::kI32, {3, 4}).slice(1, 1, 3);
  EXPECT_EQ(columns.describe(), "i32[3, 2]");
  EXPECT_EQ(columns.data<std::int32_t>(), data + 1);
  EXPECT_EQ(columns.stride(0), 4);
  EXPECT_FALSE(columns.is_contiguous());
  EXPECT_EQ(columns.slice(0, 2, 3).data<std::int32_t>(), data + 9);  // row 2, column 1: 2 * 4 + 1
  EXPECT_TRUE(columns.slice(0, 2, 3).is_contiguous());               // one row has no gaps
}

TEST(View, SplitMakesHeadsOfAFusedDimension) {
  float data[2 * 12] = {};
  const View heads =
      View(data, DType::kF32, {2, 12}).slice(1, 4, 12).split(1, 4);  // columns 4..11 as 2 heads of 4
  EXPECT_EQ(heads.describe(), "f32[2, 2, 4]");
  EXPECT_EQ(heads.stride(0), 12);
  EXPECT_EQ(heads.stride(1), 4);
  EXPECT_EQ(heads.stride(2), 1);
  EXPECT_EQ(View(data, DType::kF32, {4, 6}).split(0, 2).describe(), "f32[2, 2, 6]");
}

TEST(View, WithoutMemoryKeepsItsShapeAndIsFalse) {
  const View planned(nullptr, DType::kBF16, {4, 8});
  EXPECT_FALSE(planned);
  EXPECT_EQ(planned.slice(0, 1, 3).describe(), "bf16[2, 8]");
  EXPECT_EQ(planned.slice(0, 1, 3).raw(), nullptr);
  EXPECT_EQ(View().rank(), 0);
  EXPECT_EQ(View().numel(), 0);
}

TEST(View, RefusesWhatDoesNotFit) {
  float data[12] = {};
  const View view(data, DType::kF32, {3, 4});
  expect_refused([&] { view.slice(1, 2, 5); }, "slice [2, 5) of dimension 1 of f32[3, 4]");
  expect_refused([&] { view.slice(0, 2, 1); }, "slice [2, 1)");
  expect_refused([&] { view.split(1, 3); }, "dimension 1 of f32[3, 4] does not split by 3");
  expect_refused([&] { view.reshape({5, 2}); }, "f32[3, 4] cannot be seen as f32[5, 2]");
  expect_refused([&] { view.slice(1, 0, 2).reshape({6}); }, "cannot be seen as f32[6]");
  expect_refused([&] { view.data<double>(); }, "f32[3, 4] read as f64");
  expect_refused([&] { View(data, DType::kF32, {1, 1, 1, 1, 1}); }, "1 to 4 dimensions, not 5");
  expect_refused([&] { View(data, DType::kF32, {-1}); }, "dimension 0 is -1");
  const View device(data, DType::kF32, {3}, Device{DeviceKind::kCuda, 0});
  expect_refused([&] { device.data<float>(); }, "is device memory");
}

TEST(View, ReshapeSharesTheMemory) {
  float data[12] = {};
  const View flat = View(data, DType::kF32, {3, 4}).reshape({12});
  flat.data<float>()[7] = 5;
  EXPECT_EQ(data[7], 5);
}

TEST(Buffer, IsZeroFilledAlignedAndMovesItsMemory) {
  Buffer buffer(1000);
  const View view = buffer.view(DType::kU8, {1000});
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.raw()) % 256, 0U);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(view.data<std::uint8_t>()[i], 0);
  void* memory = buffer.raw();
  Buffer moved = std::move(buffer);
  EXPECT_EQ(moved.raw(), memory);
  Buffer other(10);
  other = std::move(moved);
  EXPECT_EQ(other.raw(), memory);
}

TEST(Buffer, RefusesAViewBeyondItsEnd) {
  const Buffer buffer(256);
  EXPECT_EQ(buffer.view(DType::kF32, {32}, 128).raw(), static_cast<std::uint8_t*>(buffer.raw()) + 128);
  expect_refused([&] { buffer.view(DType::kF32, {64}, 4); }, "f32[64] at byte 4 of a buffer of 256");
  expect_refused([&] { buffer.view(DType::kF32, {1}, -4); }, "at byte -4");
}

TEST(Arena, PlansFirstAndThenHandsOutTheSameLayout) {
  Arena arena;
  const auto lay_out = [&arena] {
    const View a = arena.allocate(DType::kF32, {3});     // 12 bytes: 256 with alignment
    const View b = arena.allocate(DType::kBF16, {129});  // 258 bytes: 512
    return std::pair(a, b);
  };
  EXPECT_TRUE(arena.planning());
  EXPECT_EQ(lay_out().first.raw(), nullptr);
  EXPECT_EQ(arena.peak_bytes(), 768);
  arena.reserve();
  EXPECT_FALSE(arena.planning());
  const auto [a, b] = lay_out();
  EXPECT_EQ(static_cast<std::uint8_t*>(b.raw()) - static_cast<std::uint8_t*>(a.raw()), 256);
  arena.reset();
  EXPECT_EQ(arena.allocate(DType::kF32, {3}).raw(), a.raw());
}

TEST(Arena, RewindFreesWhatCameAfterTheMarkAndThePeakStays) {
  Arena arena;
  arena.allocate(DType::kF32, {64});
  const std::int64_t mark = arena.mark();
  arena.allocate(DType::kF32, {128});
  arena.rewind(mark);
  arena.allocate(DType::kF32, {64});
  EXPECT_EQ(arena.mark(), 512);
  EXPECT_EQ(arena.peak_bytes(), 768);
}

TEST(Arena, SaysThatThePlanMissedAnAllocation) {
  Arena arena;
  arena.allocate(DType::kF32, {64});
  arena.reserve();
  arena.allocate(DType::kF32, {64});
  expect_refused([&] { arena.allocate(DType::kF32, {1}); }, "the plan missed an allocation");
}

TEST(Rows, MergesDimensionsWithoutGaps) {
  float data[24] = {};
  const View whole(data, DType::kF32, {2, 3, 4});
  EXPECT_EQ(Rows<1>({whole}).row_length(), 24);
  EXPECT_EQ(Rows<1>({whole.slice(2, 0, 3)}).row_length(), 3);  // gaps after every third element
  EXPECT_EQ(Rows<1>({whole.slice(1, 0, 2)}).row_length(), 8);  // gaps after every second row of 4
  const Rows<1> columns({whole.slice(2, 1, 2)});               // [2, 3, 1]: single elements, 4 apart
  EXPECT_EQ(columns.row_length(), 1);
  EXPECT_EQ(columns.offset(0, 5), 20);  // (1, 2): 12 + 2 * 4
}

TEST(Rows, MergesOnlyWhereAllViewsCan) {
  float data[24] = {};
  const View whole(data, DType::kF32, {4, 3}), padded = View(data, DType::kF32, {4, 6}).slice(1, 0, 3);
  const Rows<2> rows({whole, padded});
  EXPECT_EQ(rows.row_length(), 3);
  EXPECT_EQ(rows.offset(0, 2), 6);
  EXPECT_EQ(rows.offset(1, 2), 12);
}

}  // namespace
}  // namespace terroir::test
