#include "tests/house/layering.h"

#include <gtest/gtest.h>

#include <ostream>

#include "tests/house/source_tree.h"

namespace terroir::house {
namespace {

struct Planted {
  const char* path;
  const char* included;
  friend std::ostream& operator<<(std::ostream& out, const Planted& planted) {
    return out << planted.path << " including " << planted.included;
  }
};

class PlantedViolation : public testing::TestWithParam<Planted> {};

TEST_P(PlantedViolation, IsFound) {
  const auto [path, included] = GetParam();
  const std::string text = "// comment\n#include <vector>\n#include \"" + std::string(included) + "\"\n";
  const auto violations = layering_violations(path, text);
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_NE(violations[0].find(std::string(path) + ":3: "), std::string::npos) << violations[0];
  EXPECT_NE(violations[0].find(included), std::string::npos) << violations[0];
}

INSTANTIATE_TEST_SUITE_P(
    Layering, PlantedViolation,
    testing::Values(Planted{"base/file.cc", "kernels/tensor/view.h"},             // up
                    Planted{"kernels/tensor/view.h", "kernels/matmul/matmul.h"},  // views know no op
                    Planted{"kernels/matmul/matmul.cc", "parallel/mesh.h"},       // an op knows no group
                    Planted{"parallel/mesh.cc", "kernels/matmul/matmul.h"},       // only tensors
                    Planted{"parallel/mesh.cc", "data/loader/corpus.h"},          // sideways
                    Planted{"data/loader/loader.cc", "parallel/communicator.h"},  // numbers, no communicator
                    Planted{"data/loader/loader.cc", "kernels/tensor/view.h"},
                    Planted{"trainer/config/config.h", "trainer/model/parameters.h"},
                    Planted{"trainer/checkpoint/save.cc", "trainer/model/parameters.h"},
                    Planted{"trainer/eval/eval.cc", "trainer/interop/export.h"},  // siblings
                    Planted{"trainer/step/loop.cc", "trainer/eval/eval.h"},
                    Planted{"trainer/model/layer.cc", "tests/support/check.h"},
                    Planted{"trainer/model/layer.cc", "decoder_layer.h"}));  // not from the repository root

TEST(Layering, AllowsOwnFolderAndThoseBelow) {
  EXPECT_TRUE(layering_violations("base/file.cc", "#include \"base/file.h\"\n").empty());
  EXPECT_TRUE(layering_violations("parallel/mesh.cc", "#include \"kernels/tensor/view.h\"\n").empty());
  EXPECT_TRUE(layering_violations("kernels/adamw/adamw.cc", "#include \"kernels/op_table.h\"\n").empty());
  EXPECT_TRUE(
      layering_violations("trainer/step/loop.cc", "#include \"trainer/optimizer/adamw.h\"\n").empty());
}

TEST(Layering, FolderWithoutAPlaceIsAViolation) {
  EXPECT_EQ(layering_violations("trainer/novelty/x.cc", "").size(), 1u);
  EXPECT_EQ(layering_violations("extras/x.cc", "").size(), 1u);
}

TEST(Layering, EveryIncludeOfTheSourceTreePointsDown) {
  int num_files = 0;
  for (const auto* folder : {"base", "kernels", "parallel", "data", "trainer"}) {
    for (const auto& path : files_below(folder, {".h", ".cc", ".cu", ".cuh"})) {
      ++num_files;
      for (const auto& violation : layering_violations(path, read_source(path))) ADD_FAILURE() << violation;
    }
  }
  EXPECT_GT(num_files, 50) << "the source tree was not found";
}

}  // namespace
}  // namespace terroir::house
