// The order of training as a pure function: permutation, windows of one source, mixture of sources.
#include "data/mixture/mixture.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "data/mixture/permutation.h"
#include "data/mixture/window_order.h"

namespace terroir {
namespace {

TEST(Permutation, IsBijectiveForEverySize) {
  for (std::uint64_t size = 1; size <= 300; ++size) {
    const Permutation permutation(size, philox_key(size, "test"), size % 5);
    std::vector<bool> seen(size, false);
    for (std::uint64_t i = 0; i < size; ++i) {
      const std::uint64_t value = permutation.at(i);
      ASSERT_LT(value, size);
      EXPECT_FALSE(seen[value]) << size;
      seen[value] = true;
      EXPECT_EQ(permutation.inverse(value), i);
    }
  }
}

TEST(Permutation, InvertsHugeSizes) {
  for (const std::uint64_t size :
       {(std::uint64_t{1} << 40) + 1, std::uint64_t{1} << 62, std::uint64_t{999999999989}}) {
    const Permutation permutation(size, philox_key(1, "test"), 2);
    for (std::uint64_t i = 0; i < 200; ++i) {
      const std::uint64_t index = philox_bits(philox_key(3, "test"), i) % size;
      EXPECT_EQ(permutation.inverse(permutation.at(index)), index);
    }
  }
}

TEST(Permutation, DiffersByKeyAndByTweak) {
  const Permutation one(1000, philox_key(1, "a"), 0), other_key(1000, philox_key(1, "b"), 0),
      other_tweak(1000, philox_key(1, "a"), 1);
  int same_key = 0, same_tweak = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    same_key += one.at(i) == other_key.at(i) ? 1 : 0;
    same_tweak += one.at(i) == other_tweak.at(i) ? 1 : 0;
  }
  EXPECT_LT(same_key, 10);  // one match is expected by chance
  EXPECT_LT(same_tweak, 10);
}

TEST(Permutation, SendsEveryElementEverywhere) {
  // 4000 keys, 8 elements: each (from, to) pair is expected 500 times, standard deviation 21.
  std::vector<int> counts(64, 0);
  for (std::uint64_t key = 0; key < 4000; ++key) {
    const Permutation permutation(8, philox_key(key, "test"), 0);
    for (std::uint64_t i = 0; i < 8; ++i) ++counts[i * 8 + permutation.at(i)];
  }
  for (const int count : counts) EXPECT_NEAR(count, 500, 110);
}

TEST(WindowOrder, TakesEachWindowOnceAnEpoch) {
  // 1003 tokens, cells of 100, windows of 20: 10 cells of 5 windows; 3 tokens are left over.
  // 1050 tokens: a last cell of 2 windows. 45 tokens: one cell of 2 windows.
  for (const std::int64_t tokens : {1003, 1050, 45}) {
    const WindowOrder order(1, "ko", tokens, 100, 20);
    EXPECT_EQ(order.windows_per_epoch(), tokens / 100 * 5 + tokens % 100 / 20);
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
      std::set<std::int64_t> starts;
      for (std::int64_t i = 0; i < order.windows_per_epoch(); ++i) {
        const std::int64_t start = order.window_start(epoch * order.windows_per_epoch() + i);
        EXPECT_EQ(start % 20, 0);
        EXPECT_LE(start + 20, tokens);
        starts.insert(start);
      }
      EXPECT_EQ(static_cast<std::int64_t>(starts.size()), order.windows_per_epoch());
    }
  }
}

TEST(WindowOrder, KeepsStoredOrderInsideACell) {
  const WindowOrder order(1, "ko", 10000, 100, 20);
  for (std::int64_t draw = 0; draw < order.windows_per_epoch(); ++draw) {
    if (draw % 5 != 0) {
      EXPECT_EQ(order.window_start(draw), order.window_start(draw - 1) + 20);
    }
  }
}

TEST(WindowOrder, EpochsSourcesAndSeedsDiffer) {
  const WindowOrder order(1, "ko", 10000, 100, 20), other_source(1, "vi", 10000, 100, 20),
      other_seed(2, "ko", 10000, 100, 20);
  const std::int64_t epoch = order.windows_per_epoch();
  int same_epoch = 0, same_source = 0, same_seed = 0;
  for (std::int64_t draw = 0; draw < epoch; ++draw) {
    same_epoch += order.window_start(draw) == order.window_start(draw + epoch) ? 1 : 0;
    same_source += order.window_start(draw) == other_source.window_start(draw) ? 1 : 0;
    same_seed += order.window_start(draw) == other_seed.window_start(draw) ? 1 : 0;
  }
  EXPECT_LT(same_epoch, epoch / 10);
  EXPECT_LT(same_source, epoch / 10);
  EXPECT_LT(same_seed, epoch / 10);
}

TEST(WindowOrder, SequenceLengthChangesNeitherCellsNorTheirOrder) {
  // 8 whole cells of 4 x 16 or 2 x 32 tokens: the first window of each cell begins at the same token.
  const WindowOrder narrow(1, "ko", 512, 64, 16), wide(1, "ko", 512, 64, 32);
  for (std::int64_t cell = 0; cell < 8; ++cell)
    EXPECT_EQ(narrow.window_start(4 * cell), wide.window_start(2 * cell));
}

std::vector<Draw> draws_of(const Mixture& mixture, std::int64_t first, std::int64_t count) {
  std::vector<Draw> draws(static_cast<std::size_t>(count));
  mixture.draws(first, draws);
  return draws;
}

TEST(IntegerWeights, AreMillionthsOfTheSum) {
  EXPECT_EQ(integer_weights(std::vector<double>{1, 1, 2}),
            (std::vector<std::int64_t>{250000, 250000, 500000}));
  EXPECT_EQ(integer_weights(std::vector<double>{0, 1e-9, 3}), (std::vector<std::int64_t>{0, 1, 1000000}));
}

TEST(Mixture, CountsAreExactAtEveryBlockBoundary) {
  for (const std::vector<std::int64_t>& weights : {std::vector<std::int64_t>{500000, 200000, 300000},
                                                   {333333, 0, 333333, 333334},
                                                   {1, 999999 / 40, 7, 13},
                                                   {5}}) {
    const Mixture mixture({{0, weights}}, 3);
    const std::int64_t block = mixture.block_size(0);
    const std::int64_t sum = std::accumulate(weights.begin(), weights.end(), std::int64_t{0});
    std::vector<std::int64_t> counts(weights.size(), 0);
    for (std::int64_t k = 1; k <= 20; ++k) {
      for (const Draw draw : draws_of(mixture, (k - 1) * block, block))
        ++counts[static_cast<std::size_t>(draw.source)];
      std::int64_t prefix = 0;
      for (std::size_t s = 0; s < weights.size(); ++s) {
        EXPECT_EQ(counts[s], k * block * (prefix + weights[s]) / sum - k * block * prefix / sum);
        prefix += weights[s];
      }
      EXPECT_EQ(mixture.counts(k * block), counts);
    }
  }
}

TEST(Mixture, RareSourcesGetLongerBlocks) {
  EXPECT_EQ(Mixture({{0, {500000, 500000}}}, 1).block_size(0), 128);
  EXPECT_EQ(Mixture({{0, {999000, 1000}}}, 1).block_size(0), 1024);  // 1/1000: at least 1000
}

TEST(Mixture, EachSourceIsDrawnInTurn) {
  const Mixture mixture({{0, {6, 3, 1}}, {1000, {1, 0, 9}}, {1777, {1, 1, 1}}}, 3);
  std::vector<std::int64_t> next(3, 0);
  std::int64_t sample = 0;
  for (const Draw draw : draws_of(mixture, 0, 3000)) {
    EXPECT_EQ(draw.index, next[static_cast<std::size_t>(draw.source)]++) << sample;
    ++sample;
    if (sample % 97 == 0) {
      EXPECT_EQ(mixture.counts(sample), next);
    }
    if (sample > 1000 && sample <= 1777) {
      EXPECT_NE(draw.source, 1);
    }
  }
}

TEST(Mixture, AnAppendedStageChangesNothingBeforeIt) {
  const Mixture one({{0, {6, 3, 1}}}, 3), two({{0, {6, 3, 1}}, {1000, {1, 0, 9}}}, 3);
  const std::vector<Draw> before = draws_of(one, 0, 1000), after = draws_of(two, 0, 1000);
  for (std::size_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(before[i].source, after[i].source);
    EXPECT_EQ(before[i].index, after[i].index);
  }
}

TEST(Mixture, AnyCutOfTheSamplesGivesTheSameDraws) {
  const Mixture mixture({{0, {6, 3, 1}}, {500, {1, 2, 9}}}, 3);
  const std::vector<Draw> whole = draws_of(mixture, 0, 1200);
  for (const std::int64_t size : {1, 7, 128, 300}) {
    for (std::int64_t first = 0; first + size <= 1200; first += size) {
      const std::vector<Draw> part = draws_of(mixture, first, size);
      for (std::int64_t i = 0; i < size; ++i) {
        ASSERT_EQ(part[static_cast<std::size_t>(i)].source,
                  whole[static_cast<std::size_t>(first + i)].source);
        ASSERT_EQ(part[static_cast<std::size_t>(i)].index, whole[static_cast<std::size_t>(first + i)].index);
      }
    }
  }
}

TEST(Mixture, BlocksDifferInOrder) {
  const Mixture mixture({{0, {1, 1}}}, 3);
  const std::vector<Draw> draws = draws_of(mixture, 0, 256);
  int same = 0;
  for (std::size_t i = 0; i < 128; ++i) same += draws[i].source == draws[i + 128].source ? 1 : 0;
  EXPECT_NEAR(same, 64, 30);
}

// Runs that go on with a newer program must see the same samples: these values may not change.
TEST(OrderFormat, IsTheDocumentsExample) {
  const WindowOrder order(1234, "ko", 1000, 256, 64);
  std::vector<std::int64_t> windows;
  for (std::int64_t draw = 0; draw < 30; ++draw) windows.push_back(order.window_start(draw) / 64);
  EXPECT_EQ(windows, (std::vector<std::int64_t>{8, 9, 10, 11, 12, 13, 14, 4,  5, 6, 7, 0, 1,  2,  3,  //
                                                0, 1, 2,  3,  8,  9,  10, 11, 4, 5, 6, 7, 12, 13, 14}));

  const Mixture mixture({{0, {500000, 200000, 300000}}}, 1234);
  std::vector<std::pair<int, std::int64_t>> first;
  for (const Draw draw : draws_of(mixture, 0, 8)) first.emplace_back(draw.source, draw.index);
  EXPECT_EQ(first, (std::vector<std::pair<int, std::int64_t>>{
                       {1, 0}, {0, 0}, {0, 1}, {1, 1}, {1, 2}, {2, 0}, {2, 1}, {1, 3}}));
  EXPECT_EQ(mixture.counts(128), (std::vector<std::int64_t>{64, 25, 39}));
  EXPECT_EQ(mixture.counts(256), (std::vector<std::int64_t>{128, 51, 77}));
}

}  // namespace
}  // namespace terroir
