#include "trainer/checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/hash.h"
#include "parallel/world.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/save_state.h"
#include "trainer/checkpoint/manifest.h"

namespace terroir {
namespace {

using test::random_layout;
using test::RankState;

const std::vector<int> kSizes{1, 2, 3, 4};

using test::filled;
using test::meta_at;
using test::save;

TEST(Checkpoint, AnyLayoutLoadsWhatAnyLayoutSaved) {
  for (const int savers : kSizes) {
    TemporaryFolder folder;
    save(folder.path(), meta_at(7), filled(random_layout(savers, 100 + static_cast<std::uint32_t>(savers))));
    for (std::uint32_t seed = 0; seed < 20; ++seed) {
      for (const RankState& rank : random_layout(1 + static_cast<int>(seed % 4), seed)) {
        load_checkpoint(folder / "step-00000007", rank.slices());
        EXPECT_EQ(rank.num_wrong(), 0) << savers << " ranks saved, seed " << seed;
      }
    }
  }
}

TEST(Checkpoint, KeepsItsMeta) {
  TemporaryFolder folder;
  write_file_atomically(folder / "tokenizer.json", "{\"a\": 1}");
  CheckpointMeta meta = meta_at(12);
  meta.next_sample = 1234567890123;
  meta.model.model_type = "qwen3";
  meta.model.head_dim = 24;
  meta.model.rms_norm_eps = 1e-6;
  meta.model.rope_scaling.rope_type = "llama3";
  meta.model.rope_scaling.factor = 8.1;
  meta.config_hash = "c";
  meta.plan_hash = "p";
  meta.extra = {{"world", {{"tensor", 2}}}, {"loss", 0.1}};
  save(folder / "checkpoints", meta, filled(random_layout(2, 1)), folder / "tokenizer.json");
  const std::filesystem::path path = folder / "checkpoints/step-00000012";
  const CheckpointMeta got = read_checkpoint_meta(path);
  EXPECT_EQ(got.step, 12);
  EXPECT_EQ(got.next_sample, 1234567890123);
  EXPECT_EQ(got.model, meta.model);
  EXPECT_EQ(got.config_hash, "c");
  EXPECT_EQ(got.plan_hash, "p");
  EXPECT_EQ(got.extra, meta.extra);
  EXPECT_EQ(got.tokenizer_sha256, sha256_hex("{\"a\": 1}"));
  EXPECT_EQ(read_checkpoint_file(path, "tokenizer.json"), "{\"a\": 1}");
  EXPECT_EQ(read_checkpoint_file(path, "other.json"), std::nullopt);
}

TEST(Checkpoint, KeepsTextsBesideTheTensors) {
  TemporaryFolder folder;
  std::vector<float> norm(6);
  const auto control = local_world()->group({0}, Queue::kControl, "control");
  save_checkpoint(folder.path(), meta_at(1), {{whole_slice("norm", "weight", {6}, norm.data())}}, {},
                  *control, {}, {{"choices.json", "[1]"}});
  const std::filesystem::path path = folder / "step-00000001";
  EXPECT_EQ(read_checkpoint_file(path, "choices.json"), "[1]");
  write_file_atomically(path / "choices.json", "[2]");
  expect_error(ExitCode::kCheckpoint, {"choices.json", "damaged"},
               [&] { read_checkpoint_file(path, "choices.json"); });
}

TEST(Checkpoint, ManifestNamesTensorsWithTheirUnshardedShapes) {
  TemporaryFolder folder;
  save(folder.path(), meta_at(1), filled(random_layout(3, 5)));
  const CheckpointManifest manifest = read_checkpoint_manifest(folder / "step-00000001");
  ASSERT_EQ(manifest.tensors.size(), test::small_tensors().size());
  for (const auto& [name, shape] : test::small_tensors()) {
    EXPECT_EQ(manifest.tensors.at(name).shape, shape);
    EXPECT_EQ(manifest.tensors.at(name).states.size(), 3U);
  }
}

TEST(Checkpoint, StoresEachElementOnce) {
  TemporaryFolder folder;
  save(folder.path(), meta_at(1), filled(random_layout(2, 9, {"weight"})));
  std::uint64_t data_bytes = 0;
  for (const StoredFile& file : read_checkpoint_manifest(folder / "step-00000001").files) {
    std::uint64_t header_bytes = 0;
    InputFile(folder / "step-00000001" / file.name)
        .read_at(0, std::as_writable_bytes(std::span(&header_bytes, 1)));
    data_bytes += file.bytes - 8 - header_bytes;
  }
  EXPECT_EQ(data_bytes, 4U * (11 * 6 + 6 * 9 + 8 + 6));
}

TEST(Checkpoint, RefusesASaveThatForgetsOrRepeatsASlice) {
  TemporaryFolder folder;
  std::vector<float> norm(6);
  const StateSlice whole = whole_slice("model.norm.weight", "weight", {6}, norm.data());
  StateSlice part = whole;
  part.end = 5;
  const auto control = local_world()->group({0}, Queue::kControl, "control");
  for (const std::vector<StateSlice>& slices : {std::vector{whole, part}, std::vector{part}}) {
    expect_error(ExitCode::kInternal, {"model.norm.weight: slices of weight hold", "the tensor has 6"},
                 [&] { save_checkpoint(folder.path(), meta_at(1), slices, {}, *control); });
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  }
}

class LoadRefusal : public ::testing::Test {
 protected:
  void SetUp() override { save(folder_.path(), meta_at(1), filled(random_layout(2, 3, {"weight"}))); }
  void expect_refusal(const StateSlice& slice, const std::string& words) {
    expect_error(ExitCode::kCheckpoint, {words}, [&] { load_checkpoint(path_, {{slice}}); });
  }
  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "step-00000001";
  std::vector<float> memory_ = std::vector<float>(1000);
};

TEST_F(LoadRefusal, NamesATensorThatIsNotThere) {
  expect_refusal(whole_slice("lm_head.weight", "weight", {2}, memory_.data()),
                 "lm_head.weight: is not in this checkpoint");
}

TEST_F(LoadRefusal, NamesAnotherShape) {
  expect_refusal(whole_slice("model.norm.weight", "weight", {7}, memory_.data()),
                 "model.norm.weight: has shape [6] in this checkpoint, [7] in the model");
}

TEST_F(LoadRefusal, NamesAStateThatIsNotThere) {
  EXPECT_TRUE(checkpoint_has_state(path_, "weight"));
  EXPECT_FALSE(checkpoint_has_state(path_, "exp_avg"));
  expect_refusal(whole_slice("model.norm.weight", "exp_avg", {6}, memory_.data()),
                 "model.norm.weight: has no exp_avg");
}

TEST_F(LoadRefusal, NamesElementsThatNoSliceHolds) {
  // Two slices with as many elements as the tensor, but of the same half of it.
  const auto control = local_world()->group({0}, Queue::kControl, "control");
  save_checkpoint(folder_.path(), meta_at(2), {{whole_slice("half", "weight", {3}, memory_.data())}}, {},
                  *control);
  CheckpointManifest manifest = read_checkpoint_manifest(folder_ / "step-00000002");
  const StoredSlice half = manifest.tensors.at("half").states.at("weight")[0];
  manifest.tensors["t"] = {{6}, {{"weight", {half, half}}}};
  path_ = folder_ / "step-00000002";
  write_file_atomically(path_ / kManifestName, manifest_text(manifest));
  expect_refusal(whole_slice("t", "weight", {6}, memory_.data()),
                 "t: 3 of 6 elements of weight are in no slice");
}

TEST(Checkpoint, RefusesAnotherTokenizerThanTheRunBeganWith) {
  TemporaryFolder folder;
  write_file_atomically(folder / "tokenizer.json", "{}");
  CheckpointMeta meta = meta_at(1);
  meta.tokenizer_sha256 = sha256_hex("[]");
  expect_error(ExitCode::kCheckpoint, {"the run was started with " + sha256_hex("[]")}, [&] {
    save(folder / "checkpoints", meta, filled(random_layout(2, 1)), folder / "tokenizer.json");
  });
  EXPECT_TRUE(std::filesystem::is_empty(folder / "checkpoints"));
}

TEST(CheckpointManifest, SurvivesTheWayToTextAndBack) {
  TemporaryFolder folder;
  save(folder.path(), meta_at(3), filled(random_layout(2, 4)));
  const std::string text = read_file(folder / "step-00000003/manifest.json");
  EXPECT_EQ(manifest_text(parse_manifest(text, "m")), text);
}

// A manifest that carries its right hash but was not made by this program.
std::string resealed(const std::string& text, const std::string& from, const std::string& to) {
  const std::size_t tail = text.rfind(",\n  \"manifest_hash\"");
  std::string body = text.substr(0, tail);
  const std::size_t at = body.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  body.replace(at, from.size(), to);
  const std::string hash = xxh3_128(std::as_bytes(std::span(body))).hex();
  return fmt::format("{},\n  \"manifest_hash\": \"{}\"\n}}\n", body, hash);
}

TEST(CheckpointManifest, RefusesWhatItCannotTrust) {
  TemporaryFolder folder;
  save(folder.path(), meta_at(3), filled(random_layout(1, 4)));
  const std::string text = read_file(folder / "step-00000003/manifest.json");
  const std::vector<std::vector<std::string>> cases{
      {"\"format_version\": 1", "\"format_version\": 2", "has format version 2"},
      {"terroir-checkpoint", "other", "is not a checkpoint's manifest"},
      {"\"file\":\"rank-00000.safetensors\",\"bytes\"", "\"file\":\"../rank\",\"bytes\"",
       "file name \"../rank\""},
      {"\"file\":\"rank-00000.safetensors\",\"bytes\"", "\"file\":\"/etc/x\",\"bytes\"",
       "file name \"/etc/x\""},
      {"\"file\":\"rank-00000.safetensors\",\"bytes\"", "\"file\":\"hf/../x\",\"bytes\"",
       "file name \"hf/../x\""},
      {"\"file\":\"rank-00000.safetensors\",\"bytes\"", "\"file\":\"other\",\"bytes\"", "is not listed"},
      {"\"model.norm.weight\": {\"shape\": [6]", "\"model.norm.weight\": {\"shape\": [5]",
       "model.norm.weight"},
      {"\"model.norm.weight\": {\"shape\": [6]", "\"model.norm.weight\": {\"shape\": [7]",
       "the tensor has 7"},
      {"\"model.norm.weight\": {\"shape\": [6]", "\"model.norm.weight\": {\"shape\": []",
       "at least one dimension"},
      {"\"model.norm.weight\": {\"shape\": [6]", "\"model.norm.weight\": {\"shape\": [9223372036854775807,9]",
       "does not fit 64 bits"},
      {"\"step\": 3", "\"step\": \"3\"", "step: must be an integer"},
      {"\"hidden_size\":256", "\"hidden_size\":null", "model.hidden_size: must be an integer"}};
  for (const auto& item : cases) {
    SCOPED_TRACE(item[1]);
    expect_error(ExitCode::kCheckpoint, {item[2]},
                 [&] { parse_manifest(resealed(text, item[0], item[1]), "m.json"); });
  }
  expect_error(ExitCode::kCheckpoint, {"m.json: is too short"}, [&] { parse_manifest("{}", "m.json"); });
}

}  // namespace
}  // namespace terroir
