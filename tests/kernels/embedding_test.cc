// Legend: T tokens, V rows of the table, H hidden size.
#include "kernels/embedding/embedding.h"

#include "kernels/tensor/elementwise.h"
#include "tests/kernels/expect_refused.h"
#include "tests/kernels/test_tensor.h"

namespace terroir::test {
namespace {

class EmbeddingOf : public testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(HiddenSizes, EmbeddingOf, testing::Values(1, 3, 63, 64, 65, 257));

TEST_P(EmbeddingOf, ForwardCopiesRowsAndZeroesTheIdsOfOtherRanks) {
  const std::int64_t hidden = GetParam();
  Tensor table({4, hidden}, 2), out({6, hidden}, 5);
  const std::vector<double> rows = values(table.randomize(1));
  const IntTensor ids({6}, {10, 13, 9, 14, -1, 10});  // this rank has ids 10 to 13
  OpContext ctx = context();
  embedding_forward(ctx, {.ids = ids, .table = table, .vocab_begin = 10, .out = out});
  std::vector<double> wanted(static_cast<std::size_t>(6 * hidden));
  for (std::int64_t h = 0; h < hidden; ++h) {
    wanted[h] = wanted[5 * hidden + h] = rows[h];
    wanted[hidden + h] = rows[3 * hidden + h];
  }
  expect_close(out, wanted, 0, "out");
  EXPECT_TRUE(out.gaps_untouched());
}

TEST_P(EmbeddingOf, BackwardAddsTokensInTheirOrder) {
  const std::int64_t hidden = GetParam(), tokens = 40;
  std::vector<std::int32_t> ids;
  for (int t = 0; t < tokens; ++t) ids.push_back(t * 7 % 6 - 1);  // -1 to 4; the table has 0 to 3
  Tensor dout({tokens, hidden}, 3), dtable({4, hidden}, 2), wanted({4, hidden});
  dout.randomize(1);
  dtable.randomize(2);
  OpContext ctx = context(3);
  copy(ctx, dtable, wanted);
  for (int t = 0; t < tokens; ++t)
    for (std::int64_t h = 0; h < hidden && ids[t] >= 0 && ids[t] < 4; ++h)
      wanted.view().data<float>()[ids[t] * hidden + h] += dout.view().data<float>()[t * (hidden + 3) + h];
  embedding_backward(ctx,
                     {.ids = IntTensor({tokens}, ids), .dout = dout, .vocab_begin = 0, .dtable = dtable});
  expect_same_bits(dtable, wanted, "dtable");
  EXPECT_TRUE(dtable.gaps_untouched());
}

TEST(Embedding, PartsOfTheVocabularySumToTheWhole) {
  constexpr std::int64_t kVocab = 7, kHidden = 5, kTokens = 9;
  Tensor table({kVocab, kHidden}), whole({kTokens, kHidden}), sum({kTokens, kHidden}),
      part({kTokens, kHidden});
  Tensor dtable({kVocab, kHidden}), dparts({kVocab, kHidden});
  table.randomize(1);
  const IntTensor ids({kTokens}, {0, 6, 3, 4, 4, 5, 1, 2, 0});
  OpContext ctx = context();
  embedding_forward(ctx, {ids, table, 0, whole});
  fill(ctx, dtable, 0);
  fill(ctx, dparts, 0);
  fill(ctx, sum, 0);
  embedding_backward(ctx, {ids, whole, 0, dtable});
  for (const auto& [begin, end] : {std::pair{0, 4}, std::pair{4, 7}}) {
    embedding_forward(ctx, {ids, table.view().slice(0, begin, end), begin, part});
    accumulate(ctx, part, sum);
    embedding_backward(ctx, {ids, whole, begin, dparts.view().slice(0, begin, end)});
  }
  expect_same_bits(sum, whole, "forward");
  expect_same_bits(dparts, dtable, "backward");
}

TEST(Embedding, GivesTheSameBitsForAnyNumberOfThreads) {
  constexpr std::int64_t kTokens = 100, kHidden = 257;
  Tensor table({11, kHidden}), dout({kTokens, kHidden});
  table.randomize(1);
  dout.randomize(2);
  std::vector<std::int32_t> numbers;
  for (int t = 0; t < kTokens; ++t) numbers.push_back(t * t % 11);
  const IntTensor ids({kTokens}, numbers);
  const auto run = [&](int threads) {
    std::pair<Tensor, Tensor> result{Shape{kTokens, kHidden}, Shape{11, kHidden}};
    OpContext ctx = context(threads);
    fill(ctx, result.second, 0);
    embedding_forward(ctx, {ids, table, 0, result.first});
    embedding_backward(ctx, {ids, dout, 0, result.second});
    return result;
  };
  const auto one = run(1);
  for (const int threads : {2, 3}) {
    const auto several = run(threads);
    expect_same_bits(several.first, one.first, "out");
    expect_same_bits(several.second, one.second, "dtable");
  }
}

TEST(Embedding, RefusesWrongArgumentsAndWritesNothing) {
  Tensor table({4, 3}), out({2, 3}), narrow({2, 2});
  table.randomize(1);
  const IntTensor ids({2}, {0, 1});
  OpContext ctx = context();
  expect_refused(
      [&] {
        embedding_forward(ctx, {ids, table, 0, narrow});
      },
      "embedding_forward: out is f32[2, 2], must be f32[2, 3]");
  expect_refused(
      [&] {
        embedding_forward(ctx, {table, table, 0, out});
      },
      "embedding_forward: ids is f32[4, 3], must be i32[*]");
  expect_refused(
      [&] {
        embedding_backward(ctx, {ids, narrow, 0, out});
      },
      "embedding_backward: dout is f32[2, 2], must be f32[2, 3]");
  Buffer half(64);
  expect_refused(
      [&] {
        embedding_forward(ctx, {ids, half.view(DType::kBF16, {4, 3}), 0, out});
      },
      "embedding_forward: table is bf16[4, 3], its dtype must be f32");
  for (const double value : values(out)) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace terroir::test
