#include "kernels/tensor/elementwise.h"

#include <bit>
#include <cstring>
#include <numeric>

#include "tests/kernels/expect_refused.h"
#include "tests/kernels/test_tensor.h"

namespace terroir::test {
namespace {

// More than three times the least work worth a thread, odd rows, gaps between them.
constexpr std::int64_t kRows = 200, kColumns = 257, kPad = 3;

class ColumnsOf : public testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(Sizes, ColumnsOf, testing::Values(1, 3, 7, 8, 16, 17, 63, 64, 65, 257));

TEST_P(ColumnsOf, StridedCopyMovesEveryElementAndNothingElse) {
  Tensor from({5, GetParam()}, 2), to({5, GetParam()}, 9);
  from.randomize(1);
  OpContext ctx = context();
  copy(ctx, from, to);
  expect_same_bits(to, from, "to");
  EXPECT_TRUE(to.gaps_untouched());
}

TEST_P(ColumnsOf, AddSumsEveryElement) {
  Tensor a({5, GetParam()}, 2), b({5, GetParam()}), out({5, GetParam()}, 9);
  a.randomize(1);
  b.randomize(2);
  std::vector<double> wanted = values(a);
  for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i] += values(b)[i];
  OpContext ctx = context();
  add(ctx, a, b, out);
  expect_close(out, wanted, 1e-7, "out");
  EXPECT_TRUE(out.gaps_untouched());
}

TEST_P(ColumnsOf, ScaleAndFillReachEveryElement) {
  Tensor x({3, GetParam()}, 5);
  std::vector<double> wanted = values(x.randomize(1));
  for (double& value : wanted) value *= -0.5;
  OpContext ctx = context();
  scale(ctx, x, -0.5F);
  expect_close(x, wanted, 0, "scaled");
  fill(ctx, x, 7);
  expect_close(x, std::vector<double>(wanted.size(), 7), 0, "filled");
  EXPECT_TRUE(x.gaps_untouched());
}

TEST(Copy, MovesAnyDtypeOfAnyRank) {
  OpContext ctx = context();
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64, DType::kI32, DType::kI64, DType::kU8}) {
    Buffer from(2 * 3 * 5 * 8), to(2 * 3 * 5 * 8);
    const View source = from.view(dtype, {2, 3, 5}), target = to.view(dtype, {2, 3, 5});
    auto* bytes = static_cast<std::uint8_t*>(from.raw());
    std::iota(bytes, bytes + source.bytes(), std::uint8_t{1});
    copy(ctx, source.slice(1, 1, 3), target.slice(1, 0, 2));
    const std::int64_t width = dtype_bytes(dtype);
    const auto* copied = static_cast<const std::uint8_t*>(to.raw());
    for (int outer = 0; outer < 2;
         ++outer) {  // rows 1 and 2 of each group became rows 0 and 1; row 2 stayed zero
      EXPECT_EQ(std::memcmp(copied + outer * 15 * width, bytes + (outer * 15 + 5) * width, 10 * width), 0);
      for (int i = 0; i < 5 * width; ++i) EXPECT_EQ(copied[(outer * 15 + 10) * width + i], 0);
    }
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
  Buffer rounded(n * 2), widened(n * 4);
  OpContext ctx = context(2);
  const View bf16 = rounded.view(DType::kBF16, {n}), f32 = widened.view(DType::kF32, {n});
  cast(ctx, ConstView(numbers.data(), DType::kF32, {n}), bf16);
  cast(ctx, bf16, f32);
  for (std::int64_t i = 0; i < n; ++i) {
    const float number = numbers[static_cast<std::size_t>(i)];
    const std::uint16_t got = bf16.data<BFloat16>()[i].bits;
    ASSERT_EQ(std::bit_cast<std::uint32_t>(f32.data<float>()[i]), std::uint32_t{got} << 16)
        << "widening is exact";
    if (std::isnan(number)) {
      ASSERT_TRUE(std::isnan(f32.data<float>()[i])) << "a NaN stays a NaN";
    } else if (std::isinf(number)) {
      ASSERT_EQ(f32.data<float>()[i], number);
    } else {
      ASSERT_EQ(got, nearest_bf16(number)) << number;
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
  double a[] = {1, 2, 3, 4}, b[] = {0x1p-50, 1, 1, 1};
  OpContext ctx = context();
  accumulate(ctx, ConstView(b, DType::kF64, {2, 2}).slice(1, 0, 1),
             View(a, DType::kF64, {2, 2}).slice(1, 0, 1));
  EXPECT_EQ(a[0], 1 + 0x1p-50);
  EXPECT_EQ(a[1], 2);  // column 1 is outside the view
  EXPECT_EQ(a[2], 4);
  EXPECT_EQ(a[3], 4);
}

TEST(Fill, RoundsToBf16) {
  Buffer buffer(200);
  const View view = buffer.view(DType::kBF16, {100});
  OpContext ctx = context();
  fill(ctx, view, 1.01F);  // 1.01 lies between 1.0078125 and 1.015625, nearer to the first: 0x3F81
  for (int i = 0; i < 100; ++i) ASSERT_EQ(view.data<BFloat16>()[i].bits, 0x3F81);
}

TEST(Elementwise, GivesTheSameBitsForAnyNumberOfThreads) {
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
  const View none(nullptr, DType::kF32, {0, 4});
  EXPECT_NO_THROW(copy(ctx, none, none));
  EXPECT_NO_THROW(accumulate(ctx, none, none));
  EXPECT_NO_THROW(fill(ctx, none, 1));
}

TEST(Elementwise, RefusesWrongArgumentsAndWritesNothing) {
  OpContext ctx = context();
  Tensor a({2, 3}), b({3, 2}), out({2, 3});
  a.randomize(1);
  std::int32_t integers[6] = {};
  const View ints(integers, DType::kI32, {2, 3});
  expect_refused([&] { copy(ctx, b, out); }, "copy: to is f32[2, 3], its shape must be that of f32[3, 2]");
  expect_refused([&] { copy(ctx, ints, out); }, "copy: to is f32[2, 3], its dtype must be i32");
  expect_refused([&] { cast(ctx, a, out); }, "cast: from f32[2, 3] to f32[2, 3]");
  expect_refused([&] { cast(ctx, ints, out); }, "cast: from i32[2, 3]");
  expect_refused([&] { add(ctx, a, b, out); }, "add: b is f32[3, 2]");
  expect_refused([&] { add(ctx, ints, ints, ints); }, "add: a is i32[2, 3], its dtype must be f32 or f64");
  expect_refused([&] { scale(ctx, ints, 2); }, "scale: x is i32[2, 3]");
  expect_refused([&] { fill(ctx, ints, 2); }, "fill: out is i32[2, 3]");
  expect_refused(
      [&] {
        copy(ctx, a, View(nullptr, DType::kF32, {2, 3}));
      },
      "copy: to is f32[2, 3] without memory");
  const View elsewhere(integers, DType::kF32, {2, 3}, Device{DeviceKind::kCuda, 0});
  expect_refused([&] { copy(ctx, a, elsewhere); }, "copy: to lives on another device");
  for (const double value : values(out)) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace terroir::test
