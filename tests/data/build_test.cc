// `data build` and `data verify`: text files to shards and a manifest, whole or not at all.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <map>
#include <set>

#include "base/file.h"
#include "data/loader/corpus.h"
#include "data/shard/build_shards.h"
#include "data/shard/isolate.h"
#include "data/shard/shard_reader.h"
#include "data/shard/verify_shards.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace terroir {
namespace {

namespace fs = std::filesystem;

class BuildTest : public ::testing::Test {
 protected:
  BuildTest() : tokenizer_(byte_tokenizer()) {
    options_.source = "ko";
    options_.language = "ko";
    options_.license = "CC0-1.0";
    options_.origin = "made up";
    options_.out_folder = folder_ / "out";
  }

  void add_text(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    options_.files.push_back(folder_ / name);
  }
  // "document 0\n" ... as one file.
  void add_documents(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += "document " + std::to_string(i) + "\n";
    add_text("text-" + std::to_string(options_.files.size()) + ".txt", text);
  }
  fs::path out(const std::string& name) const { return options_.out_folder / name; }
  Manifest build() { return build_shards(options_, tokenizer_); }

  // Texts of a shard's documents, in stored order; checks the tokens around each.
  std::vector<std::string> texts(const fs::path& path) const {
    const ShardReader shard(path);
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(shard.info().tokens));
    shard.read_tokens(0, tokens);
    std::vector<std::string> all;
    for (std::size_t d = 0; d + 1 < shard.document_offsets().size(); ++d) {
      const std::uint32_t begin = shard.document_offsets()[d], end = shard.document_offsets()[d + 1];
      EXPECT_EQ(tokens[begin], 0);
      EXPECT_EQ(tokens[end - 1], 1);
      all.push_back(tokenizer_.decode(std::span(tokens).subspan(begin + 1, end - begin - 2)));
    }
    return all;
  }
  std::vector<std::string> texts_of(const Manifest& manifest, const std::string& split) const {
    std::vector<std::string> all;
    for (const ManifestShard& shard : manifest.shards)
      if (shard.split == split)
        for (const std::string& text : texts(out(shard.file))) all.push_back(text);
    return all;
  }
  std::set<std::string> files_in_out() const {
    std::set<std::string> names;
    if (!fs::exists(options_.out_folder)) return names;
    for (const auto& entry : fs::directory_iterator(options_.out_folder))
      names.insert(entry.path().filename());
    return names;
  }

  TemporaryFolder folder_;
  Tokenizer tokenizer_;
  BuildOptions options_;
};

TEST_F(BuildTest, EveryDocumentIsStoredOnceBetweenItsMarks) {
  add_documents(50);
  add_text("more.jsonl", "{\"text\": \"안녕\\n하세요\", \"id\": \"a7\"}\n");
  const Manifest manifest = build();
  EXPECT_EQ(files_in_out(),
            (std::set<std::string>{"ko-00000.h5", "ko-validation-00000.h5", "ko.manifest.json"}));
  std::vector<std::string> train = texts_of(manifest, kTrainSplit),
                           held = texts_of(manifest, kValidationSplit);
  EXPECT_EQ(train.size() + held.size(), 51u);
  EXPECT_GE(held.size(), 1u);
  std::set<std::string> all(train.begin(), train.end());
  all.insert(held.begin(), held.end());
  EXPECT_EQ(all.size(), 51u);
  EXPECT_TRUE(all.contains("document 49"));
  EXPECT_TRUE(all.contains("안녕\n하세요"));

  const ShardReader shard(out("ko-00000.h5"));
  EXPECT_EQ(shard.info().source, "ko");
  EXPECT_EQ(shard.info().origin, "made up");
  EXPECT_EQ(shard.info().tokenizer_sha256, tokenizer_.sha256());
  EXPECT_EQ(shard.info().vocab_size, 258);
  EXPECT_EQ(shard.info().bos_id, 0);
  EXPECT_EQ(shard.info().eos_id, 1);
  std::int64_t bytes = 0;
  for (const std::string& text : train) bytes += static_cast<std::int64_t>(text.size());
  EXPECT_EQ(shard.info().text_bytes, bytes);
  EXPECT_EQ(manifest.total(kTrainSplit).text_bytes, bytes);
}

TEST_F(BuildTest, DocumentIdsComeFromTheSourcesIdOrTheText) {
  add_text("a.jsonl", "{\"text\": \"one\", \"id\": \"a7\"}\n{\"text\": \"two\"}\n");
  options_.validation_fraction = 0;
  build();
  const ShardReader shard(out("ko-00000.h5"));
  std::map<std::string, std::uint64_t> ids;
  const std::vector<std::string> stored = texts(out("ko-00000.h5"));
  for (std::size_t d = 0; d < 2; ++d) ids[stored[d]] = shard.document_ids()[d];
  const auto hash = [](std::string_view text) { return xxh3_128(std::as_bytes(std::span(text))).low; };
  EXPECT_EQ(ids["one"], hash("a7"));
  EXPECT_EQ(ids["two"], hash("two"));
}

TEST_F(BuildTest, DuplicatesAreDroppedAndCounted) {
  add_documents(30);
  add_documents(40);  // the first 30 again
  const Manifest manifest = build();
  EXPECT_EQ(manifest.documents_read, 70);
  EXPECT_EQ(manifest.duplicates, 30);
  EXPECT_EQ(manifest.total(kTrainSplit).documents + manifest.total(kValidationSplit).documents, 40);
}

TEST_F(BuildTest, TheOrderIsShuffledAndDependsOnTheSeedOnly) {
  add_documents(200);
  const std::vector<std::string> first = texts_of(build(), kTrainSplit);
  EXPECT_FALSE(std::is_sorted(first.begin(), first.end()));

  // The same documents in another order, in several files, on several threads, through the temporary file.
  options_.overwrite = true;
  options_.files.clear();
  std::string even, odd;
  for (int i = 199; i >= 0; --i) (i % 2 == 0 ? even : odd) += "document " + std::to_string(i) + "\n";
  add_text("even.txt", even);
  add_text("odd.txt", odd);
  options_.num_threads = 3;
  options_.memory_bytes = 1000;
  EXPECT_EQ(texts_of(build(), kTrainSplit), first);

  options_.seed = 1;
  std::vector<std::string> reseeded = texts_of(build(), kTrainSplit);
  EXPECT_NE(reseeded, first);
  EXPECT_EQ(std::set<std::string>(reseeded.begin(), reseeded.end()),
            std::set<std::string>(first.begin(), first.end()))
      << "the seed does not choose what is held out";
}

TEST_F(BuildTest, TheSameBuildGivesTheSameBytes) {
  add_documents(100);
  build();
  const std::string shard = read_file(out("ko-00000.h5")), manifest = read_file(out("ko.manifest.json"));
  options_.overwrite = true;
  options_.num_threads = 4;
  build();
  EXPECT_EQ(read_file(out("ko-00000.h5")), shard);
  EXPECT_EQ(read_file(out("ko.manifest.json")), manifest);
}

TEST_F(BuildTest, ShardsAreCutAtDocuments) {
  add_documents(90);
  options_.shard_tokens = 100;  // "document 10" between its marks: 13 tokens; seven fit, eight do not
  const Manifest manifest = build();
  EXPECT_GE(manifest.shards.size(), 12u);
  for (const ManifestShard& shard : manifest.shards) EXPECT_LE(shard.tokens, 100);
  EXPECT_EQ(texts_of(manifest, kTrainSplit).size() + texts_of(manifest, kValidationSplit).size(), 90u);
  verify_manifest(out("ko.manifest.json"), [](const std::string&) {});
}

TEST_F(BuildTest, ADocumentLongerThanAShardHasOneOfItsOwn) {
  add_text("a.txt", "short\n" + std::string(500, 'x') + "\nalso short\n");
  options_.shard_tokens = 100;
  const Manifest manifest = build();
  EXPECT_EQ(texts_of(manifest, kTrainSplit).size(), 3u);
  EXPECT_EQ(std::count_if(manifest.shards.begin(), manifest.shards.end(),
                          [](const ManifestShard& shard) { return shard.tokens == 502; }),
            1);
}

TEST_F(BuildTest, ACorpusTrainsOnWhatWasBuilt) {
  add_documents(300);
  const Manifest manifest = build();
  CorpusOptions corpus;
  corpus.sources = {{"ko", {out("*.h5").string()}, "ko", "CC0-1.0"}};
  corpus.stages = {{{{"ko", 1.0}}}};
  corpus.sequence_length = 32;
  corpus.tokenizer_sha256 = tokenizer_.sha256();
  corpus.vocab_size = tokenizer_.vocab_size();
  const Corpus opened(corpus);
  EXPECT_EQ(opened.num_tokens(0), manifest.total(kTrainSplit).tokens);
  EXPECT_EQ(opened.num_validation_tokens(0), manifest.total(kValidationSplit).tokens);
  SampleBatch batch;
  opened.read(0, 2, batch);
  // Every held-out token but each document's last is a target.
  std::int64_t targets = 0;
  opened.read_validation(0, 0, opened.num_validation_samples(0), batch);
  for (const std::int32_t target : batch.targets) targets += target >= 0 ? 1 : 0;
  EXPECT_EQ(targets, manifest.total(kValidationSplit).tokens - manifest.total(kValidationSplit).documents);
}

TEST_F(BuildTest, RefusesToReplaceACompleteSource) {
  add_documents(3);
  build();
  const std::string before = read_file(out("ko-00000.h5"));
  add_documents(5);
  expect_error(ExitCode::kUsage, {"ko.manifest.json", "--overwrite"}, [this] { build(); });
  EXPECT_EQ(read_file(out("ko-00000.h5")), before);
}

TEST_F(BuildTest, OverwritingRemovesShardsOfTheOlderBuildOnly) {
  add_documents(90);
  options_.shard_tokens = 100;
  build();
  std::ofstream(out("korean-00000.h5")) << "another source's";
  std::ofstream(out("ko-notes.h5")) << "the user's";
  options_.shard_tokens = 1 << 20;
  options_.overwrite = true;
  build();
  EXPECT_EQ(files_in_out(), (std::set<std::string>{"ko-00000.h5", "ko-validation-00000.h5",
                                                   "ko.manifest.json", "korean-00000.h5", "ko-notes.h5"}));
}

TEST_F(BuildTest, RefusedTextLeavesNothing) {
  add_documents(100);
  add_text("bad.txt", "good\nb\xff\n");
  expect_error(ExitCode::kData, {"bad.txt:2:2: "}, [this] { build(); });
  EXPECT_EQ(files_in_out(), std::set<std::string>{});
  options_.reader.invalid_utf8 = InvalidUtf8::kReplace;
  EXPECT_EQ(build().documents_read, 102);
}

TEST_F(BuildTest, RefusesInputWithoutDocuments) {
  add_text("empty.txt", "\n\r\n");
  expect_error(ExitCode::kData, {"empty.txt", "no document"}, [this] { build(); });
}

TEST_F(BuildTest, NamesEveryWrongOption) {
  options_.source = "ko/../x";
  options_.language = "";
  options_.license = "do as you like!";
  options_.validation_fraction = 0.9;
  options_.shard_tokens = 0;
  expect_error(
      ExitCode::kUsage,
      {"--source: ", "--language: ", "--license: ", "--validation-fraction: ", "--shard-tokens: ", "FILE: "},
      [this] { build(); });
}

// Builds in a child that kills itself at progress call number `call`.
void build_killed_at(const BuildOptions& options, const Tokenizer& tokenizer, int call) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    BuildOptions killed = options;
    int calls = 0;
    killed.progress = [&](const BuildProgress&) {
      if (calls++ == call) ::raise(SIGKILL);
    };
    build_shards(killed, tokenizer);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST_F(BuildTest, AKilledBuildLeavesNoShardAndCanBeRunAgain) {
  add_documents(90);
  options_.shard_tokens = 100;
  for (const int call : {0, 1, 100, 256}) {
    build_killed_at(options_, tokenizer_, call);
    EXPECT_EQ(files_in_out(), std::set<std::string>{"ko.building"}) << call;
  }
  build();
  verify_manifest(out("ko.manifest.json"), [](const std::string&) {});
  EXPECT_FALSE(fs::exists(out("ko.building")));
}

TEST_F(BuildTest, AKilledOverwriteKeepsTheOlderBuild) {
  add_documents(90);
  build();
  const std::string before = read_file(out("ko-00000.h5"));
  options_.overwrite = true;
  add_documents(100);
  build_killed_at(options_, tokenizer_, 200);
  EXPECT_EQ(read_file(out("ko-00000.h5")), before);
  verify_manifest(out("ko.manifest.json"), [](const std::string&) {});
}

TEST_F(BuildTest, ASecondBuildOfTheSameSourceIsRefused) {
  add_documents(3);
  bool tried = false;
  options_.progress = [&](const BuildProgress&) {
    if (tried) return;
    tried = true;
    BuildOptions second = options_;
    second.progress = nullptr;
    expect_error(ExitCode::kUsage, {"ko.building", "another process"},
                 [&] { build_shards(second, tokenizer_); });
  };
  build();
  EXPECT_TRUE(tried);
  verify_manifest(out("ko.manifest.json"), [](const std::string&) {});
}

TEST_F(BuildTest, AFullDiskIsReportedAndLeavesNothing) {
  add_documents(20000);  // about 300 000 tokens in 16 bits: over 600 kB
  const fs::path disk = folder_ / "disk";
  fs::create_directory(disk);
  options_.out_folder = disk / "out";
  for (const std::uint64_t memory_bytes : {std::uint64_t{1} << 28, std::uint64_t{1} << 16}) {
    options_.memory_bytes =
        memory_bytes;  // the disk is full when the shard, or the temporary file, is written
    const std::string answer = run_isolated("test", {}, [&]() -> std::string {
      // A mount only this child sees.
      if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
          ::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=256k") != 0)
        return "cannot mount a small tmpfs: root is needed";
      std::string report;
      try {
        build();
      } catch (const SystemError& error) {
        report = error.exit_code() == ExitCode::kNoSpace ? "no space" : error.what();
      }
      return report + (fs::is_empty(options_.out_folder) ? "" : ", and something was left");
    });
    if (answer.starts_with("cannot mount")) GTEST_SKIP() << answer;
    EXPECT_EQ(answer, "no space");
  }
}

class VerifyTest : public BuildTest {
 protected:
  VerifyTest() {
    add_documents(60);
    build();
  }
  void replace_in(const std::string& name, const std::string& from, const std::string& to) {
    std::string text = read_file(out(name));
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos);
    std::ofstream(out(name), std::ios::binary) << text.replace(at, from.size(), to);
  }
  void refuses(const std::vector<std::string>& words) {
    expect_error(ExitCode::kData, words,
                 [this] { verify_manifest(out("ko.manifest.json"), [](const std::string&) {}); });
  }
};

TEST_F(VerifyTest, AcceptsWhatWasBuiltAndNamesEachFile) {
  std::vector<std::string> files;
  verify_manifest(out("ko.manifest.json"), [&files](const std::string& file) { files.push_back(file); });
  EXPECT_EQ(files, (std::vector<std::string>{out("ko-00000.h5"), out("ko-validation-00000.h5")}));
  EXPECT_EQ(verify_shard(out("ko-00000.h5"))["source"], "ko");
  EXPECT_EQ(inspect_shard(out("ko-00000.h5"))["split"], "train");
}

TEST_F(VerifyTest, RefusesAFlippedByteATruncatedOrMissingShard) {
  const std::string bytes = read_file(out("ko-00000.h5"));
  std::string damaged = bytes;
  damaged[damaged.size() / 2] ^= 0x10;
  std::ofstream(out("ko-00000.h5"), std::ios::binary) << damaged;
  refuses({"ko-00000.h5", "SHA-256"});
  std::ofstream(out("ko-00000.h5"), std::ios::binary) << bytes.substr(0, 1000);
  refuses({"ko-00000.h5", "1000 bytes"});
  std::ofstream(out("ko-00000.h5"), std::ios::binary) << "";
  refuses({"ko-00000.h5", "has 0 bytes"});
  fs::remove(out("ko-00000.h5"));
  refuses({"ko-00000.h5", "No such file"});
}

TEST_F(VerifyTest, RefusesAMissingOrMalformedManifest) {
  replace_in("ko.manifest.json", "\"source\": \"ko\"", "\"source\": 5");
  refuses({"ko.manifest.json", "source", "must be a string"});
  std::ofstream(out("ko.manifest.json")) << "{";
  refuses({"ko.manifest.json", "not valid JSON"});
  fs::remove(out("ko.manifest.json"));
  refuses({"ko.manifest.json", "No such file"});
}

TEST_F(VerifyTest, RefusesAManifestThatDisagreesWithItsShards) {
  replace_in("ko.manifest.json", "\"language\": \"ko\"", "\"language\": \"vi\"");
  refuses({"ko-00000.h5", "language", "\"ko\"", "\"vi\""});
}

TEST_F(VerifyTest, RefusesAManifestWhoseTotalsAreWrongOrThatLeadsElsewhere) {
  replace_in("ko.manifest.json", "\"train\": {\n    \"documents\": ", "\"train\": {\n    \"documents\": 1");
  refuses({"ko.manifest.json", "train", "sum"});
  options_.overwrite = true;
  build();
  replace_in("ko.manifest.json", "ko-00000.h5", "../ko-00000.h5");
  refuses({"ko.manifest.json", "shards[0]", "beside it"});
}

}  // namespace
}  // namespace terroir
