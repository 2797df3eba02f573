// Flipped bits: each is refused with the file named, or changes nothing that is read.
#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "base/file.h"
#include "base/hash.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/save_state.h"
#include "trainer/checkpoint/verify.h"

namespace terroir {
namespace {

namespace fs = std::filesystem;

class FlippedBit : public ::testing::Test {
 protected:
  void SetUp() override {
    tokenizer_ = R"({"version": "1.0", "model": {"type": "BPE"}})";
    write_file_atomically(folder_ / "tokenizer.json", tokenizer_);
    test::save(folder_ / "checkpoints", test::meta_at(1), test::filled(test::random_layout(2, 5)),
               folder_ / "tokenizer.json");
  }

  // Everything a resume reads. Throws, or fills `wrong` with the number of values that are not as saved.
  std::int64_t read_all() const {
    const std::vector<test::RankState> layout = test::random_layout(1, 9);
    load_checkpoint(path_, layout[0].slices());
    const CheckpointMeta meta = read_checkpoint_meta(path_);
    return layout[0].num_wrong() + (meta.step != 1) +
           (read_checkpoint_file(path_, "tokenizer.json") != tokenizer_);
  }

  // Flips one bit of `file` at a time; returns how many flips were not refused (and then read as saved).
  int sweep(const std::string& file) {
    const std::string good = read_file(path_ / file);
    int harmless = 0;
    std::mt19937 random(3);
    for (std::size_t byte = 0; byte < good.size(); ++byte) {
      put_byte(path_ / file, byte, static_cast<char>(good[byte] ^ (1 << random() % 8)));
      try {
        EXPECT_EQ(read_all(), 0) << file << " byte " << byte << ": wrong values without an error";
        ++harmless;
      } catch (const UserError& error) {
        EXPECT_EQ(error.exit_code(), ExitCode::kCheckpoint);
        EXPECT_NE(std::string(error.what()).find(file), std::string::npos) << error.what();
      }
      if (byte % 16 == 0) {
        EXPECT_FALSE(verify_checkpoint(path_).empty()) << file << " byte " << byte;
      }
      put_byte(path_ / file, byte, good[byte]);
    }
    EXPECT_EQ(read_all(), 0);
    EXPECT_TRUE(verify_checkpoint(path_).empty());
    return harmless;
  }

  // In place: thousands of rewritten files would wait for the disk.
  static void put_byte(const fs::path& path, std::size_t position, char value) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(position)).put(value);
    ASSERT_TRUE(file.flush().good());
  }

  TemporaryFolder folder_;
  std::string tokenizer_;
  fs::path path_ = folder_ / "checkpoints/step-00000001";
};

TEST_F(FlippedBit, InTheManifestIsAlwaysRefused) { EXPECT_EQ(sweep("manifest.json"), 0); }

TEST_F(FlippedBit, InTheTokenizerIsAlwaysRefused) { EXPECT_EQ(sweep("tokenizer.json"), 0); }

// In a rank's file the names and values of metadata and the order of dimensions of a matrix say nothing to a
// loader.
TEST_F(FlippedBit, InARanksFileIsRefusedOrHarmless) {
  const std::size_t bytes = fs::file_size(path_ / "rank-00001.safetensors");
  EXPECT_LT(sweep("rank-00001.safetensors"), static_cast<int>(bytes / 20));
}

TEST_F(FlippedBit, VerifyNamesEveryDamagedFile) {
  for (const char* file : {"rank-00000.safetensors", "tokenizer.json"}) {
    const std::string text = read_file(path_ / file);
    put_byte(path_ / file, text.size() - 1, static_cast<char>(text.back() ^ 1));
  }
  const std::vector<Problem> problems = verify_checkpoint(path_);
  ASSERT_EQ(problems.size(), 2U);
  EXPECT_EQ(problems[0].place.file, (path_ / "rank-00000.safetensors").string());
  EXPECT_EQ(problems[1].place.file, (path_ / "tokenizer.json").string());
}

TEST_F(FlippedBit, AnywhereIsFoundByVerifyEvenWhereALoaderNeverLooks) {
  const fs::path file = path_ / "rank-00000.safetensors";
  put_byte(file, read_file(file).find("\"pt\"") + 1, 'q');
  EXPECT_EQ(read_all(), 0);
  EXPECT_EQ(verify_checkpoint(path_).size(), 1U);
}

TEST(Compare, SaysInWhichStatesTwoCheckpointsDiffer) {
  TemporaryFolder folder;
  test::save(folder / "a", test::meta_at(1), test::filled(test::random_layout(2, 5)));
  test::save(folder / "b", test::meta_at(1), test::filled(test::random_layout(3, 6)));
  EXPECT_TRUE(compare_checkpoints(folder / "a/step-00000001", folder / "b/step-00000001").empty());

  std::vector<test::RankState> changed = test::filled(test::random_layout(1, 7));
  for (const StateSlice& slice : changed[0].slices())
    if (slice.tensor == "model.norm.weight" && slice.state == "exp_avg" && slice.begin == 0 && slice.end > 0)
      slice.data[0] += 2;
  test::save(folder / "c", test::meta_at(1), changed);
  const auto differences = compare_checkpoints(folder / "a/step-00000001", folder / "c/step-00000001");
  ASSERT_EQ(differences.size(), 1U);
  EXPECT_EQ(differences[0].tensor, "model.norm.weight");
  EXPECT_EQ(differences[0].state, "exp_avg");
  EXPECT_EQ(differences[0].kind, "values");
  EXPECT_EQ(differences[0].num_elements, 6);
  EXPECT_GE(differences[0].num_different, 1);
  EXPECT_EQ(differences[0].max_difference, 2);

  test::save(folder / "d", test::meta_at(1), test::filled(test::random_layout(1, 7, {"weight"})));
  for (const StateDifference& difference :
       compare_checkpoints(folder / "a/step-00000001", folder / "d/step-00000001"))
    EXPECT_EQ(difference.kind, "only_in_a");
}

}  // namespace
}  // namespace terroir
