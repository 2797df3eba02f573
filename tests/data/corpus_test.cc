// Samples of a corpus, and the loader that reads them ahead.
#include "data/loader/corpus.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "data/loader/loader.h"
#include "data/loader/token_stream.h"
#include "tests/data/small_shards.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace terroir {
namespace {

using Ints = std::vector<std::int32_t>;

TEST(Corpus, TargetsPositionsAndDocumentsRestartAtBoundaries) {
  TemporaryFolder folder;
  // Stored tokens 5 6 7 | 8 9 | 10 11 12 13: windows of 4 are {5 6 7 8} and {9 10 11 12}.
  write_shard(folder / "a.h5", shard_content({{5, 6, 7}, {8, 9}, {10, 11, 12, 13}}));
  CorpusOptions options = corpus_options({{"a", folder / "a.h5"}}, 4);
  const Corpus corpus(options);
  ASSERT_EQ(corpus.windows_per_epoch(0), 2);
  SampleBatch batch;
  corpus.read(0, 2, batch);  // one cell: stored order
  EXPECT_EQ(batch.tokens, (Ints{5, 6, 7, 8, 9, 10, 11, 12}));
  EXPECT_EQ(batch.targets, (Ints{6, 7, -1, 9, -1, 11, 12, 13}));
  EXPECT_EQ(batch.positions, (Ints{0, 1, 2, 0, 0, 0, 1, 2}));
  EXPECT_EQ(batch.documents, (Ints{0, 0, 0, 1, 0, 1, 1, 1}));
  EXPECT_EQ(batch.source, (Ints{0, 0}));
}

// docs/formats/shard.md.
TEST(Corpus, IsTheDocumentsExample) {
  TemporaryFolder folder;
  write_shard(folder / "d.h5", shard_content({{0, 5, 6, 1}, {0, 7, 1}}), 4);
  TokenStream stream;
  stream.append(std::make_unique<ShardReader>(folder / "d.h5"));
  Ints tokens(4), targets(4), positions(4), documents(4);
  stream.read_window(2, {tokens, targets, positions, documents});
  EXPECT_EQ(tokens, (Ints{6, 1, 0, 7}));
  EXPECT_EQ(targets, (Ints{1, -1, 7, 1}));
  EXPECT_EQ(positions, (Ints{0, 1, 0, 1}));
  EXPECT_EQ(documents, (Ints{0, 0, 1, 1}));
}

TEST(Corpus, WindowsCrossShardsButTargetsDoNot) {
  TemporaryFolder folder;
  write_shard(folder / "a-0.h5", shard_content({{1, 2, 3}}));
  write_shard(folder / "a-1.h5", shard_content({{4, 5, 6}}));
  const Corpus corpus(corpus_options({{"a", folder / "a-*.h5"}}, 6));
  SampleBatch batch;
  corpus.read(0, 1, batch);
  EXPECT_EQ(batch.tokens, (Ints{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(batch.targets, (Ints{2, 3, -1, 5, 6, -1}));
  EXPECT_EQ(batch.documents, (Ints{0, 0, 0, 1, 1, 1}));
}

TEST(Corpus, WideTokensAreReadAsStored) {
  TemporaryFolder folder;
  write_shard(folder / "a.h5", shard_content({{70000, 65536, 65535, 0}}, kTrainSplit, 100000));
  const Corpus corpus(corpus_options({{"a", folder / "a.h5"}}, 4));
  SampleBatch batch;
  corpus.read(0, 1, batch);
  EXPECT_EQ(batch.tokens, (Ints{70000, 65536, 65535, 0}));
}

TEST(Corpus, HeldOutWindowsStandInStoredOrderAndTheLastIsPadded) {
  TemporaryFolder folder;
  write_shard(folder / "train.h5", shard_content({{1, 2, 3, 4}}));
  write_shard(folder / "held.h5", shard_content({{5, 6, 7}, {8, 9, 10}}, kValidationSplit));
  const Corpus corpus(corpus_options({{"a", folder / "*.h5"}}, 4));
  EXPECT_EQ(corpus.num_tokens(0), 4);
  EXPECT_EQ(corpus.num_validation_tokens(0), 6);
  ASSERT_EQ(corpus.num_validation_samples(0), 2);
  SampleBatch batch;
  corpus.read_validation(0, 0, 2, batch);
  EXPECT_EQ(batch.tokens, (Ints{5, 6, 7, 8, 9, 10, 0, 0}));
  EXPECT_EQ(batch.targets, (Ints{6, 7, -1, 9, 10, -1, -1, -1}));
  EXPECT_EQ(batch.positions, (Ints{0, 1, 2, 0, 0, 1, 0, 1}));
  EXPECT_EQ(batch.documents, (Ints{0, 0, 0, 1, 0, 0, 1, 1}));
}

// Two sources of 1000 and 600 counting tokens; tokens of the second begin at 100000.
class CorpusOrder : public ::testing::Test {
 protected:
  CorpusOrder() {
    write_shard(folder_ / "a-0.h5", counting_content(700, 9), 64);
    write_shard(folder_ / "a-1.h5", counting_content(300, 9, kTrainSplit, 700), 64);
    write_shard(folder_ / "b.h5", counting_content(600, 11, kTrainSplit, 100000), 64);
    options_ = corpus_options({{"a", folder_ / "a-*.h5"}, {"b", folder_ / "b.h5"}}, 16);
    options_.stages[0].weights = {{"a", 0.75}, {"b", 0.25}};
    options_.cell_tokens = 64;
  }
  TemporaryFolder folder_;
  CorpusOptions options_;
};

TEST_F(CorpusOrder, AnEpochTakesEveryWindowOnce) {
  const Corpus corpus(options_);
  EXPECT_EQ(corpus.windows_per_epoch(0), 62);  // 1000 / 16
  SampleBatch batch;
  corpus.read(0, 128, batch);  // one block: 96 of a, 32 of b
  EXPECT_EQ(corpus.windows_drawn(0, 128), 96);
  EXPECT_EQ(corpus.windows_drawn(1, 128), 32);
  std::set<std::int32_t> starts;
  int drawn = 0;
  for (std::size_t i = 0; i < 128 && drawn < 62; ++i) {
    if (batch.source[i] != 0) continue;
    starts.insert(batch.tokens[i * 16]);
    ++drawn;
  }
  EXPECT_EQ(starts.size(), 62u);
}

TEST_F(CorpusOrder, SamplesAreTheSameForAnyBatchSizeAndRankLayout) {
  const Corpus corpus(options_);
  SampleBatch whole;
  corpus.read(0, 480, whole);
  for (const auto [global, micro, ranks] : {std::array{48, 4, 3}, {48, 8, 2}, {96, 1, 4}, {480, 480, 1}}) {
    for (int rank = 0; rank < ranks; ++rank) {
      Loader loader(corpus, {0, 480 / global, global, micro, rank, ranks, 0});
      for (std::int64_t step = 0; step < 480 / global; ++step)
        for (std::int64_t m = 0; m < global / ranks / micro; ++m) {
          const SampleBatch& batch = loader.next();
          const std::int64_t first = step * global + rank * (global / ranks) + m * micro;
          ASSERT_EQ(batch.tokens,
                    Ints(whole.tokens.begin() + first * 16, whole.tokens.begin() + (first + micro) * 16));
          ASSERT_EQ(batch.targets,
                    Ints(whole.targets.begin() + first * 16, whole.targets.begin() + (first + micro) * 16));
          ASSERT_EQ(batch.source, Ints(whole.source.begin() + first, whole.source.begin() + first + micro));
        }
    }
  }
}

TEST_F(CorpusOrder, ResumingAsksForLaterSamplesOnly) {
  const Corpus corpus(options_);
  Loader uninterrupted(corpus, {0, 10, 8, 4, 0, 1, 0});
  for (int i = 0; i < 2 * 6; ++i) uninterrupted.next();
  const Corpus reopened(options_);
  Loader resumed(reopened, {6, 10, 8, 4, 0, 1, 48});  // step 6 begins at sample 6 * 8
  for (int i = 0; i < 2 * 4; ++i) EXPECT_EQ(resumed.next().tokens, uninterrupted.next().tokens);
}

TEST_F(CorpusOrder, PlanHashNamesOrderAndContent) {
  const Hash128 hash = Corpus(options_).plan_hash();
  EXPECT_EQ(Corpus(options_).plan_hash(), hash);
  CorpusOptions other = options_;
  other.seed = 8;
  EXPECT_NE(Corpus(other).plan_hash(), hash);
  other = options_;
  other.stages[0].weights[0].second = 0.8;
  EXPECT_NE(Corpus(other).plan_hash(), hash);
  other = options_;
  other.cell_tokens = 128;
  EXPECT_NE(Corpus(other).plan_hash(), hash);
  std::filesystem::rename(folder_ / "b.h5", folder_ / "c.h5");
  other = options_;
  other.sources[1].shards = {(folder_ / "c.h5").string()};
  EXPECT_EQ(Corpus(other).plan_hash(), hash);
  write_shard(folder_ / "c.h5", counting_content(600, 12, kTrainSplit, 100000));
  EXPECT_NE(Corpus(other).plan_hash(), hash);
}

TEST_F(CorpusOrder, RefusesWhatDoesNotFit) {
  const auto refuses = [this](ExitCode code, const std::vector<std::string>& words, auto change) {
    CorpusOptions options = options_;
    change(options);
    expect_error(code, words, [&options] { Corpus corpus(options); });
  };
  const std::string other_tokenizer(64, 'b');
  refuses(ExitCode::kData, {"a-0.h5", other_tokenizer, kTestTokenizer},
          [&](CorpusOptions& o) { o.tokenizer_sha256 = other_tokenizer; });
  refuses(ExitCode::kData, {"a-0.h5", "1048576", "1000"}, [](CorpusOptions& o) { o.vocab_size = 1000; });
  refuses(ExitCode::kData, {"data.sources.a.shards", "1000 training tokens", "1024"}, [](CorpusOptions& o) {
    o.sequence_length = 1024;
    o.cell_tokens = 0;
  });
  refuses(ExitCode::kUsage, {"data.sources.b.shards", "no file matches"},
          [](CorpusOptions& o) { o.sources[1].shards = {"/nowhere/*.h5"}; });
  refuses(ExitCode::kUsage, {"data.sources.a.language", "vi", "ko"},
          [](CorpusOptions& o) { o.sources[0].language = "vi"; });
  refuses(ExitCode::kUsage, {"data.sources.a.license", "MIT", "CC0-1.0"},
          [](CorpusOptions& o) { o.sources[0].license = "MIT"; });
  refuses(ExitCode::kUsage, {"data.stages[0].sources.x", "no source"},
          [](CorpusOptions& o) { o.stages[0].weights[1].first = "x"; });
  refuses(ExitCode::kUsage, {"data.stages[0].sources.a", "twice"},
          [](CorpusOptions& o) { o.stages[0].weights[1].first = "a"; });
  refuses(ExitCode::kUsage, {"data.stages[0].sources.b", ">= 0"},
          [](CorpusOptions& o) { o.stages[0].weights[1].second = -1; });
  refuses(ExitCode::kUsage, {"data.stages[0].sources", "positive sum"}, [](CorpusOptions& o) {
    o.stages[0].weights = {{"a", 0}};
  });
  refuses(ExitCode::kUsage, {"data.stages[0].sources.b", "1/65536"},
          [](CorpusOptions& o) { o.stages[0].weights[1].second = 1e-6; });
  refuses(ExitCode::kUsage, {"data.stages[0].first_sample"},
          [](CorpusOptions& o) { o.stages[0].first_sample = 5; });
  refuses(ExitCode::kUsage, {"data.cell_tokens", "multiple"}, [](CorpusOptions& o) { o.cell_tokens = 65; });
}

TEST_F(CorpusOrder, ASourceWithoutWeightMayBeTooSmallToTrainOn) {
  options_.sequence_length = 640;  // b has 600 tokens
  options_.cell_tokens = 0;
  options_.stages[0].weights = {{"a", 1}, {"b", 0}};
  const Corpus corpus(options_);
  EXPECT_EQ(corpus.windows_per_epoch(1), 0);
  SampleBatch batch;
  corpus.read(0, 50, batch);
  EXPECT_EQ(std::set<std::int32_t>(batch.source.begin(), batch.source.end()), (std::set<std::int32_t>{0}));
}

TEST_F(CorpusOrder, BatchBuffersAreReused) {
  const Corpus corpus(options_);
  SampleBatch batch;
  corpus.read(0, 8, batch);
  const std::int32_t* tokens = batch.tokens.data();
  corpus.read(8, 8, batch);
  EXPECT_EQ(batch.tokens.data(), tokens);
}

TEST_F(CorpusOrder, DamageFoundByTheLoaderThreadReachesTheCaller) {
  const Corpus corpus(options_);
  // Opened before the damage: only reading a block can notice. Overwrites the middle of b.h5's token blocks.
  std::string bytes;
  {
    std::ifstream in(folder_ / "b.h5", std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  const std::uint32_t token = 100300;
  const std::size_t at = bytes.find(std::string(reinterpret_cast<const char*>(&token), 4));
  ASSERT_NE(at, std::string::npos);
  std::fstream(folder_ / "b.h5", std::ios::in | std::ios::out | std::ios::binary)
      .seekp(static_cast<long>(at))
      .put(1);
  Loader loader(corpus, {0, 100, 8, 8, 0, 1, 0});
  expect_error(ExitCode::kData, {"b.h5", "tokens 256 to 319", "hash"}, [&loader] {
    for (int i = 0; i < 100; ++i) loader.next();
  });
}

TEST_F(CorpusOrder, ALoaderMayBeDroppedAtAnyTime) {
  const Corpus corpus(options_);
  for (int taken = 0; taken < 6; ++taken) {
    Loader loader(corpus, {0, 1000, 8, 8, 0, 1, 0});
    for (int i = 0; i < taken; ++i) loader.next();
  }
}

TEST_F(CorpusOrder, AskingPastThePlanIsABug) {
  const Corpus corpus(options_);
  Loader loader(corpus, {0, 1, 8, 8, 0, 1, 0});
  loader.next();
  EXPECT_GE(loader.last_wait_s(), 0);
  EXPECT_THROW(loader.next(), ContractError);
}

}  // namespace
}  // namespace terroir
