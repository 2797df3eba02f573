// Legend: T tokens, V rows of the table, H hidden size.
#include "kernels/embedding/embedding.h"

#include <tuple>

#include "kernels/tensor/elementwise.h"
#include "tests/kernels/expect_refused.h"
#include "tests/kernels/test_tensor.h"

namespace terroir::test {
namespace {

using Ids = std::vector<std::int32_t>;

// dtable [V, H] + dout [T, H] in the tokens' order, in f32.
std::vector<double> scatter_added(const Tensor& dtable, const Tensor& dout, const Ids& ids,
                                  std::int32_t vocab_begin) {
  const std::vector<double> from = values(dout);
  std::vector<double> result = values(dtable);
  const std::int64_t hidden = dtable.view().size(1);
  for (std::size_t t = 0; t < ids.size(); ++t) {
    const std::int64_t row = ids[t] - vocab_begin;
    if (row < 0 || row >= dtable.view().size(0)) continue;
    for (std::int64_t h = 0; h < hidden; ++h) {
      double& sum = result[static_cast<std::size_t>(row * hidden + h)];
      sum = static_cast<float>(sum) + static_cast<float>(from[t * static_cast<std::size_t>(hidden) + h]);
    }
  }
  return result;
}

class EmbeddingOf : public testing::TestWithParam<std::tuple<std::int64_t, DType>> {};
INSTANTIATE_TEST_SUITE_P(HiddenSizes, EmbeddingOf,
                         testing::Combine(testing::Values(1, 3, 63, 64, 65, 257, 2304),
                                          testing::Values(DType::kF32, DType::kBF16)));

TEST_P(EmbeddingOf, ForwardCopiesRowsAndZeroesTheIdsOfOtherRanks) {
  const auto [hidden, dtype] = GetParam();
  for (const std::int64_t pad : {0, 5}) {
    Tensor table({4, hidden}, 2 * pad, dtype), out({6, hidden}, pad, dtype);
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
}

TEST_P(EmbeddingOf, BackwardAddsTokensInTheirOrder) {
  const auto [hidden, dtype] = GetParam();
  constexpr std::int64_t kTokens = 40;
  Ids ids;
  for (int t = 0; t < kTokens; ++t) ids.push_back(t * 7 % 6 - 1);  // -1 to 4; the table has 0 to 3
  for (const std::int64_t pad : {0, 3}) {
    Tensor dout({kTokens, hidden}, pad, dtype), dtable({4, hidden}, 2 * pad);
    const std::vector<double> wanted = scatter_added(dtable.randomize(2), dout.randomize(1), ids, 0);
    OpContext ctx = context(3);
    embedding_backward(ctx,
                       {.ids = IntTensor({kTokens}, ids), .dout = dout, .vocab_begin = 0, .dtable = dtable});
    expect_close(dtable, wanted, 0, "dtable");
    EXPECT_TRUE(dtable.gaps_untouched());
  }
}

// Enough tokens for many classes of rows on a GPU, and for rows whose tokens do not fit into one list.
TEST(Embedding, BackwardAddsManyTokensInTheirOrder) {
  constexpr std::int64_t kTokens = 5000, kVocab = 700, kHidden = 8;
  Ids ids;
  std::mt19937 generator(1);
  for (int t = 0; t < kTokens; ++t)
    ids.push_back(t % 2 == 0 ? 1017 : static_cast<std::int32_t>(1000 + generator() % 720));
  for (const std::int64_t count : {std::int64_t{0}, std::int64_t{1}, std::int64_t{1025}, kTokens}) {
    Tensor dout({count, kHidden}), dtable({kVocab, kHidden});
    const Ids first(ids.begin(), ids.begin() + count);
    const std::vector<double> wanted = scatter_added(dtable.randomize(2), dout.randomize(1), first, 1000);
    OpContext ctx = context();
    embedding_backward(ctx, {IntTensor({count}, first), dout, 1000, dtable});
    expect_close(dtable, wanted, 0, "dtable");
  }
  const Ids same(kTokens, 3);
  Tensor dout({kTokens, kHidden}), dtable({kVocab, kHidden});
  const std::vector<double> wanted = scatter_added(dtable.randomize(2), dout.randomize(1), same, 0);
  OpContext ctx = context();
  embedding_backward(ctx, {IntTensor({kTokens}, same), dout, 0, dtable});
  expect_close(dtable, wanted, 0, "dtable");
}

TEST(Embedding, PartsOfTheVocabularySumToTheWhole) {
  constexpr std::int64_t kVocab = 7, kHidden = 5, kTokens = 9;
  Tensor table({kVocab, kHidden}), whole({kTokens, kHidden}), part({kTokens, kHidden});
  Tensor dtable({kVocab, kHidden}), dparts({kVocab, kHidden});
  table.randomize(1);
  const IntTensor ids({kTokens}, {0, 6, 3, 4, 4, 5, 1, 2, 0});
  OpContext ctx = context();
  embedding_forward(ctx, {ids, table, 0, whole});
  dtable.randomize(1, 0);
  dparts.randomize(1, 0);
  std::vector<double> sum(static_cast<std::size_t>(kTokens * kHidden));
  embedding_backward(ctx, {ids, whole, 0, dtable});
  for (const auto& [begin, end] : {std::pair{0, 4}, std::pair{4, 7}}) {
    embedding_forward(ctx, {ids, table.view().slice(0, begin, end), begin, part});
    const std::vector<double> rows = values(part);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += rows[i];
    embedding_backward(ctx, {ids, whole, begin, dparts.view().slice(0, begin, end)});
  }
  expect_close(whole, sum, 0, "forward");
  expect_same_bits(dparts, dtable, "backward");
}

TEST(Embedding, GivesTheSameBitsForAnyNumberOfThreads) {
  TERROIR_CPU_ONLY();
  constexpr std::int64_t kTokens = 100, kHidden = 257;
  Tensor table({11, kHidden}), dout({kTokens, kHidden});
  table.randomize(1);
  dout.randomize(2);
  Ids numbers;
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
  const Tensor half({4, 3}, 0, DType::kBF16);
  table.randomize(1);
  const IntTensor ids({2}, {0, 1}), numbers({4, 3}, Ids(12));
  OpContext ctx = context();
  const auto forward_refused = [&](const EmbeddingForwardArgs& args, const std::string& words) {
    expect_refused([&] { embedding_forward(ctx, args); }, "embedding_forward: " + words);
  };
  const auto backward_refused = [&](const EmbeddingBackwardArgs& args, const std::string& words) {
    expect_refused([&] { embedding_backward(ctx, args); }, "embedding_backward: " + words);
  };
  forward_refused({ids, table, 0, narrow}, "out is f32[2, 2], must be f32[2, 3]");
  forward_refused({table, table, 0, out}, "ids is f32[4, 3], must be i32[*]");
  forward_refused({ids, half, 0, out}, "out is f32[2, 3], its dtype must be bf16");
  forward_refused({ids, numbers, 0, out}, "table is i32[4, 3], its dtype must be f32 or bf16");
  backward_refused({ids, narrow, 0, out}, "dout is f32[2, 2], must be f32[2, 3]");
  backward_refused({ids, out, 0, half.view()}, "dtable is bf16[4, 3], its dtype must be f32");
  backward_refused({ids, numbers, 0, out}, "dout is i32[4, 3], its dtype must be f32 or bf16");
  for (const double value : values(out)) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace terroir::test
