#include "kernels/loss_sums/loss_sums.h"

#include "tests/kernels/expect_refused.h"
#include "tests/kernels/on_device.h"

namespace terroir::test {
namespace {

// Four sequences of `length` tokens: of sources 2, 0, 2, 2 of 4; every seventh target does not count.
struct Batch {
  explicit Batch(std::int64_t length) : loss({4 * length}), targets(4 * length) {
    loss.randomize(1, 3);
    for (std::int64_t t = 0; t < 4 * length; ++t)
      targets[static_cast<std::size_t>(t)] = t % 7 == 3 ? -1 : static_cast<std::int32_t>(t * 5 % 11);
  }
  Tensor loss;
  std::vector<std::int32_t> targets;
  std::vector<std::int32_t> source = {2, 0, 2, 2};
  std::vector<std::int32_t> token_bytes = {1, 0, 2, 3, 5, 1, 1, 9, 4, 7, 6};
};

std::vector<double> reference(const Batch& batch, std::vector<double> sums) {
  const std::vector<double> loss = values(batch.loss);
  const std::size_t length = loss.size() / 4;
  for (std::size_t sequence = 0; sequence < 4; ++sequence) {
    double nats = 0;
    const auto source = static_cast<std::size_t>(batch.source[sequence]);
    for (std::size_t t = sequence * length; t < (sequence + 1) * length; ++t) {
      if (batch.targets[t] < 0) continue;
      nats += loss[t];
      sums[4 + source] += 1;
      sums[8 + source] += batch.token_bytes[static_cast<std::size_t>(batch.targets[t])];
    }
    sums[source] += nats;
  }
  return sums;
}

class LossSumsOf : public testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(Lengths, LossSumsOf, testing::Values(0, 1, 5, 700, 1500));

TEST_P(LossSumsOf, AddsTheSumsOfEachSource) {
  const std::int64_t length = GetParam();
  const Batch batch(length);
  const std::vector<double> before = {1, 2, 3, 4, 10, 20, 30, 40, 5, 6, 7, 8};
  const std::vector<double> wanted = reference(batch, before);
  const OnDevice<double> sums(before);
  OpContext ctx = context();
  loss_sums(ctx, {.loss = batch.loss,
                  .targets = IntTensor({4 * length}, batch.targets),
                  .source = IntTensor({4}, batch.source),
                  .token_bytes = IntTensor({11}, batch.token_bytes),
                  .sums = sums.view({3, 4})});
  const std::vector<double> got = sums.values();
  for (std::size_t i = 0; i < 12; ++i) {
    const double tolerance = i < 4 && on_cuda() ? 1e-12 * (1 + std::abs(wanted[i])) : 0;
    EXPECT_NEAR(got[i], wanted[i], tolerance) << i;
  }
}

TEST(LossSums, RefusesWrongArgumentsAndWritesNothing) {
  const Batch batch(3);
  const IntTensor targets({12}, batch.targets), source({4}, batch.source), bytes({11}, batch.token_bytes),
      five({5}, {0, 0, 0, 0, 0});
  const OnDevice<double> sums({0, 0, 0});
  OpContext ctx = context();
  const auto refused = [&](const LossSumsArgs& args, const std::string& words) {
    expect_refused([&] { loss_sums(ctx, args); }, "loss_sums: " + words);
  };
  const View out = sums.view({3, 1});
  refused({batch.loss, source, source, bytes, out}, "targets is i32[4], must be i32[12]");
  refused({batch.loss, targets, five, bytes, out}, "12 losses of 5 sequences");
  refused({batch.loss, targets, source, batch.loss, out}, "token_bytes is f32[12], its dtype must be i32");
  refused({batch.loss, targets, source, bytes, sums.view()}, "sums is f64[3], must be f64[3, *]");
  refused({targets, targets, source, bytes, out}, "loss is i32[12], its dtype must be f32");
  EXPECT_EQ(sums.values(), std::vector<double>(3));
}

}  // namespace
}  // namespace terroir::test
