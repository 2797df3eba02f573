// The worked example of docs/formats/checkpoint.md is what this program writes.
#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/save_state.h"

namespace terroir {
namespace {

constexpr const char* kDocument = TERROIR_SOURCE_DIR "/docs/formats/checkpoint.md";

std::string code_block(const std::string& document, const std::string& language) {
  const std::string fence = "```" + language + "\n";
  const std::size_t begin = document.find(fence) + fence.size();
  return document.substr(begin, document.find("```", begin) - begin);
}

// Two tensor ranks: each owns half the columns of a 2 x 4 matrix, and rank 0 also the last element of rank
// 1's half (as a ZeRO shard would), and the norm's three weights.
std::vector<test::RankState> example_layout(std::vector<float>& matrix) {
  const std::string name = "model.layers.0.mlp.down_proj.weight";
  const Box left{{0, 0}, {2, 2}}, right{{0, 2}, {2, 2}};
  std::vector<test::RankState> layout(2);
  layout[0].add({name, "weight", {2, 4}, left, 0, 4, nullptr});
  layout[0].add({name, "weight", {2, 4}, right, 3, 4, nullptr});
  layout[0].add(whole_slice("model.norm.weight", "weight", {3}, nullptr));
  layout[1].add({name, "weight", {2, 4}, right, 0, 3, nullptr});
  matrix = {0, 1, 2, 3, 4, 5, 6, 7};
  for (const test::RankState& rank : layout)
    for (const StateSlice& slice : rank.slices())
      for (std::int64_t i = slice.begin; i < slice.end; ++i)
        slice.data[i - slice.begin] =
            matrix[static_cast<std::size_t>(test::global_index(slice.box, slice.global_shape, i))];
  return layout;
}

TEST(CheckpointDocument, ExampleIsTheManifestThisProgramWrites) {
  TemporaryFolder folder;
  CheckpointMeta meta = test::meta_at(1000);
  meta.next_sample = 32000;
  meta.model.vocab_size = 7;
  meta.model.head_dim = 4;
  meta.config_hash = "5c1f";
  meta.plan_hash = "90ab";
  meta.extra = {{"world", {{"tensor", 2}, {"data", 1}}}};
  std::vector<float> matrix;
  test::save(folder.path(), meta, example_layout(matrix));
  EXPECT_EQ(read_file(folder / "step-00001000/manifest.json"), code_block(read_file(kDocument), "json"));
}

}  // namespace
}  // namespace terroir
