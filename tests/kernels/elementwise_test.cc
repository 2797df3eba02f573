#include "kernels/tensor/elementwise.h"

#include <bit>
#include <numeric>
#include <tuple>

#include "tests/kernels/expect_refused.h"
#include "tests/kernels/on_device.h"

namespace terroir::test {
namespace {

// More than three times the least work worth a thread, odd rows, gaps between them.
constexpr std::int64_t kRows = 200, kColumns = 257, kPad = 3;

class ColumnsOf : public testing::TestWithParam<std::tuple<std::int64_t, DType>> {};
INSTANTIATE_TEST_SUITE_P(Sizes, ColumnsOf,
                         testing::Combine(testing::Values(1, 3, 7, 8, 16, 17, 63, 64, 65, 257, 2048),
                                          testing::Values(DType::kF32, DType::kBF16)));

// Gaps of every alignment: rows that a GPU can and cannot access 16 bytes at a time.
TEST_P(ColumnsOf, StridedCopyMovesEveryElementAndNothingElse) {
  const auto [columns, dtype] = GetParam();
  for (const std::int64_t pad : {0, 1, 2, 4, 8}) {
    Tensor from({5, columns}, pad, dtype), to({5, columns}, 8 - pad, dtype);
    from.randomize(1);
    OpContext ctx = context();
    copy(ctx, from, to);
    expect_same_bits(to, from, "to");
    EXPECT_TRUE(to.gaps_untouched());
  }
}

TEST_P(ColumnsOf, AddSumsEveryElementAndRoundsOnce) {
  const auto [columns, dtype] = GetParam();
  for (const std::int64_t pad : {1, 8}) {
    Tensor a({5, columns}, pad, dtype), b({5, columns}, 0, dtype), out({5, columns}, 2 * pad, dtype);
    const std::vector<double> left = values(a.randomize(1)), right = values(b.randomize(2));
    std::vector<double> wanted;
    for (std::size_t i = 0; i < left.size(); ++i) {
      const float sum = static_cast<float>(left[i]) + static_cast<float>(right[i]);
      wanted.push_back(dtype == DType::kBF16 ? rounded_to_bf16(sum) : sum);
    }
    OpContext ctx = context();
    add(ctx, a, b, out);
    expect_close(out, wanted, 0, "out");
    EXPECT_TRUE(out.gaps_untouched());
  }
}

TEST_P(ColumnsOf, ScaleAndFillReachEveryElement) {
  const auto [columns, dtype] = GetParam();
  for (const std::int64_t pad : {5, 8}) {
    OpContext ctx = context();
    Tensor filled({3, columns}, pad, dtype);
    fill(ctx, filled, 7);
    expect_close(filled, std::vector<double>(static_cast<std::size_t>(3 * columns), 7), 0, "filled");
    EXPECT_TRUE(filled.gaps_untouched());
    Tensor x({3, columns}, pad);
    std::vector<double> wanted = values(x.randomize(1));
    for (double& value : wanted) value *= -0.5;
    scale(ctx, x, -0.5F);
    expect_close(x, wanted, 0, "scaled");
    EXPECT_TRUE(x.gaps_untouched());
  }
}

TEST_P(ColumnsOf, CastWidensExactlyAndRoundsToNearest) {
  const auto [columns, dtype] = GetParam();
  const bool rounds = dtype == DType::kF32;
  for (const std::int64_t pad : {1, 4}) {
    Tensor from({5, columns}, pad, dtype), to({5, columns}, 2 * pad, rounds ? DType::kBF16 : DType::kF32);
    std::vector<double> wanted = values(from.randomize(1));
    for (double& value : wanted)
      if (rounds) value = rounded_to_bf16(static_cast<float>(value));
    OpContext ctx = context();
    cast(ctx, from, to);
    expect_close(to, wanted, 0, "to");
    EXPECT_TRUE(to.gaps_untouched());
  }
}

TEST(Copy, MovesAnyDtypeOfAnyRank) {
  OpContext ctx = context();
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64, DType::kI32, DType::kI64, DType::kU8}) {
    const std::int64_t width = dtype_bytes(dtype);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(2 * 3 * 5 * width));
    std::iota(bytes.begin(), bytes.end(), std::uint8_t{1});
    const OnDevice<std::uint8_t> from(bytes), to(std::vector<std::uint8_t>(bytes.size(), 0));
    const View source(from.data(), dtype, {2, 3, 5}, test_device()),
        target(to.data(), dtype, {2, 3, 5}, test_device());
    copy(ctx, source.slice(1, 1, 3), target.slice(1, 0, 2));
    const std::vector<std::uint8_t> copied = to.values();
    // Rows 1 and 2 of each group became rows 0 and 1; row 2 stayed zero.
    for (int outer = 0; outer < 2; ++outer) {
      const auto begin = copied.begin() + outer * 15 * width;
      EXPECT_TRUE(std::equal(begin, begin + 10 * width, bytes.begin() + (outer * 15 + 5) * width));
      EXPECT_EQ(std::count(begin + 10 * width, begin + 15 * width, 0), 5 * width);
    }
  }
}

// As keys of a micro-batch go from the fused projection into a cache, and positions with them.
TEST(Copy, MovesSlicesOfFourDimensions) {
  constexpr std::int64_t kBatch = 2, kSequence = 3, kHeads = 2, kHeadDim = 8, kCapacity = 7;
  OpContext ctx = context();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    Tensor fused({kBatch * kSequence, 5 * kHeads * kHeadDim}, 0, dtype);
    Tensor cache({kBatch, kCapacity, kHeads, kHeadDim}, 0, dtype);
    fused.randomize(1);
    const View keys = fused.view()
                          .slice(1, kHeads * kHeadDim, 2 * kHeads * kHeadDim)
                          .split(1, kHeadDim)
                          .split(0, kSequence);
    copy(ctx, keys, cache.view().slice(1, 4, 7));
    expect_same_bits(cache.view().slice(1, 4, 7), keys, "cache");
    for (const double before : values(cache.view().slice(1, 0, 4))) ASSERT_TRUE(std::isnan(before));
    // One column of many rows: runs of one element.
    Tensor column({kBatch * kSequence, 1}, 3, dtype);
    copy(ctx, fused.view().slice(1, 5, 6), column);
    expect_same_bits(column, fused.view().slice(1, 5, 6), "column");
    EXPECT_TRUE(column.gaps_untouched());
  }
}

// bfloat16 by definition: the nearer of the two neighbours, the even one of a tie. Beyond the largest finite
// value the upper neighbour counts as 2^128 and is stored as infinity.
std::uint16_t nearest_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto below = static_cast<std::uint16_t>(bits >> 16);
  const auto neighbour = [](std::uint32_t upper) {
    const double magnitude = std::fabs(std::bit_cast<float>(upper << 16));
    return std::isinf(magnitude) ? 0x1p128 : magnitude;
  };
  const double to_below = std::fabs(static_cast<double>(value)) - neighbour(below);
  const double to_above = neighbour(below + 1U) - std::fabs(static_cast<double>(value));
  if (to_below < to_above || (to_below == to_above && below % 2 == 0)) return below;
  return static_cast<std::uint16_t>(below + 1U);
}

TEST(Cast, RoundsEveryFloatExponentAndTieToTheNearestEvenBf16) {
  std::vector<float> numbers;
  for (std::uint32_t upper = 0; upper < 0x10000; ++upper)
    for (const std::uint32_t lower : {0U, 1U, 0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU})
      numbers.push_back(std::bit_cast<float>(upper << 16 | lower));
  const auto n = static_cast<std::int64_t>(numbers.size());
  const OnDevice<float> from(numbers);
  const OnDevice<std::uint16_t> rounded(std::vector<std::uint16_t>(numbers.size()));
  const OnDevice<float> widened(std::vector<float>(numbers.size()));
  OpContext ctx = context(2);
  const View bf16(rounded.data(), DType::kBF16, {n}, test_device());
  cast(ctx, from.view(), bf16);
  cast(ctx, bf16, widened.view());
  const std::vector<std::uint16_t> bits = rounded.values();
  const std::vector<float> back = widened.values();
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(back[i]), std::uint32_t{bits[i]} << 16) << "widening is exact";
    if (std::isnan(numbers[i])) {
      ASSERT_TRUE(std::isnan(back[i])) << "a NaN stays a NaN";
    } else if (std::isinf(numbers[i])) {
      ASSERT_EQ(back[i], numbers[i]);
    } else {
      ASSERT_EQ(bits[i], nearest_bf16(numbers[i])) << numbers[i];
    }
  }
}

TEST(Add, MayWriteOverEitherInput) {
  Tensor a({3, 65}, 2), b({3, 65}), sum({3, 65}), in_place({3, 65});
  a.randomize(1);
  b.randomize(2);
  OpContext ctx = context();
  add(ctx, a, b, sum);
  copy(ctx, a, in_place);
  accumulate(ctx, b, in_place);
  expect_same_bits(in_place, sum, "over a");
  copy(ctx, b, in_place);
  add(ctx, a, in_place, in_place);
  expect_same_bits(in_place, sum, "over b");
}

TEST(Add, SumsDoublesWithoutLosingDigits) {
  const OnDevice<double> a({1, 2, 3, 4}), b({0x1p-50, 1, 1, 1});
  OpContext ctx = context();
  accumulate(ctx, b.view({2, 2}).slice(1, 0, 1), a.view({2, 2}).slice(1, 0, 1));
  EXPECT_EQ(a.values(), (std::vector<double>{1 + 0x1p-50, 2, 4, 4}));  // column 1 is outside the view
  accumulate(ctx, b.view(), a.view());
  EXPECT_EQ(a.values(), (std::vector<double>{1 + 0x1p-49, 3, 5, 5}));
}

TEST(Fill, RoundsToBf16) {
  Tensor out({100}, 0, DType::kBF16);
  OpContext ctx = context();
  fill(ctx, out, 1.01F);  // between 1.0078125 and 1.015625, nearer to the first
  for (const double value : values(out)) ASSERT_EQ(value, 1.0078125);
}

TEST(Elementwise, GivesTheSameBitsForAnyNumberOfThreads) {
  TERROIR_CPU_ONLY();
  Tensor a({kRows, kColumns}, kPad), b({kRows, kColumns});
  a.randomize(1);
  b.randomize(2);
  Tensor wanted({kRows, kColumns});
  OpContext one = context(1);
  add(one, a, b, wanted);
  for (const int threads : {2, 3, 5}) {
    OpContext ctx = context(threads);
    Tensor sum({kRows, kColumns}, kPad), copied({kRows, kColumns}, kPad);
    add(ctx, a, b, sum);
    expect_same_bits(sum, wanted, "sum");
    copy(ctx, sum, copied);
    expect_same_bits(copied, wanted, "copy");
    EXPECT_TRUE(copied.gaps_untouched());
  }
}

TEST(Elementwise, TakesTensorsOfNoElements) {
  OpContext ctx = context(2);
  const View none(nullptr, DType::kF32, {0, 4}, test_device());
  EXPECT_NO_THROW(copy(ctx, none, none));
  EXPECT_NO_THROW(accumulate(ctx, none, none));
  EXPECT_NO_THROW(fill(ctx, none, 1));
}

TEST(Elementwise, RefusesWrongArgumentsAndWritesNothing) {
  OpContext ctx = context();
  Tensor a({2, 3}), b({3, 2}), out({2, 3});
  a.randomize(1);
  const OnDevice<std::int32_t> integers(std::vector<std::int32_t>(6));
  const View ints = integers.view({2, 3});
  expect_refused([&] { copy(ctx, b, out); }, "copy: to is f32[2, 3], its shape must be that of f32[3, 2]");
  expect_refused([&] { copy(ctx, ints, out); }, "copy: to is f32[2, 3], its dtype must be i32");
  expect_refused([&] { cast(ctx, a, out); }, "cast: from f32[2, 3] to f32[2, 3]");
  expect_refused([&] { cast(ctx, ints, out); }, "cast: from i32[2, 3]");
  expect_refused([&] { add(ctx, a, b, out); }, "add: b is f32[3, 2]");
  expect_refused([&] { add(ctx, ints, ints, ints); },
                 "add: a is i32[2, 3], its dtype must be f32, bf16 or f64");
  expect_refused([&] { scale(ctx, ints, 2); }, "scale: x is i32[2, 3]");
  expect_refused([&] { fill(ctx, ints, 2); }, "fill: out is i32[2, 3]");
  expect_refused(
      [&] {
        copy(ctx, a, View(nullptr, DType::kF32, {2, 3}, test_device()));
      },
      "copy: to is f32[2, 3] without memory");
  const View elsewhere(integers.data(), DType::kF32, {2, 3}, Device{DeviceKind::kCuda, 1});
  expect_refused([&] { copy(ctx, a, elsewhere); }, "copy: to lives on another device");
  for (const double value : values(out)) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace terroir::test
