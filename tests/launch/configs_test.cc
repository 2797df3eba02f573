// Every example in configs/ loads, and fits the number of ranks its head promises.
#include <gtest/gtest.h>

#include <filesystem>

#include "trainer/config/config_file.h"

namespace terroir {
namespace {

const std::filesystem::path kConfigs = TERROIR_SOURCE_DIR "/configs";

class ExampleConfig : public testing::TestWithParam<std::pair<const char*, int>> {};

TEST_P(ExampleConfig, FitsItsRanks) {
  const auto [name, world_size] = GetParam();
  EXPECT_NO_THROW(load_config(kConfigs / name, {}, world_size));
}

INSTANTIATE_TEST_SUITE_P(Configs, ExampleConfig,
                         testing::Values(std::pair{"quickstart.yaml", 4}, std::pair{"llama_124m.yaml", 4},
                                         std::pair{"llama_1b5.yaml", 32}, std::pair{"llama_7b.yaml", 128}),
                         [](const auto& info) {
                           return std::filesystem::path(info.param.first).stem().string();
                         });

TEST(Configs, EveryExampleIsListedAbove) {
  const auto files = std::filesystem::directory_iterator(kConfigs);
  EXPECT_EQ(std::distance(begin(files), end(files)), 4);
}

}  // namespace
}  // namespace terroir
