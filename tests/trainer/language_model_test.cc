// Evaluation and generation on a GPU, emulated here, give what the CPU gives.
#include "trainer/eval/language_model.h"

#include <numeric>

#include "tests/support/expect_error.h"
#include "tests/trainer/training_run.h"
#include "trainer/step/device_choice.h"

namespace terroir::test {
namespace {

constexpr Device kGpu{DeviceKind::kCuda, 0};

// A model that has learnt a little, loaded on both.
class LanguageModelOn : public TrainingRun {
 protected:
  void SetUp() override {
    TrainingRun::SetUp();
    run(config("model", {"device=cpu"}));
    cpu = std::make_unique<LanguageModel>(root("model"), 1);
    EXPECT_EQ(choose_device("cuda").kind, DeviceKind::kCuda);  // loads the module
    gpu = std::make_unique<LanguageModel>(root("model"), 1, kGpu);
  }
  // More than two pieces of a long text.
  std::vector<std::int32_t> tokens() const {
    std::vector<std::int32_t> ids(600);
    for (std::size_t i = 0; i < ids.size(); ++i)
      ids[i] = static_cast<std::int32_t>(i * i % static_cast<std::size_t>(cpu->config().vocab_size));
    return ids;
  }
  std::unique_ptr<LanguageModel> cpu, gpu;
};

TEST_F(LanguageModelOn, AGpuLikelihoodsAreThoseOfTheCpu) {
  const std::vector<float> wanted = cpu->negative_log_likelihoods(tokens());
  const std::vector<float> have = gpu->negative_log_likelihoods(tokens());
  ASSERT_EQ(have.size(), 599u);
  for (std::size_t i = 0; i < have.size(); ++i) ASSERT_NEAR(have[i], wanted[i], 1e-4) << i;
}

TEST_F(LanguageModelOn, AGpuLogitsAreThoseOfTheCpuForAPromptAndTokensAfterIt) {
  const std::vector<std::int32_t> ids = tokens();
  for (LanguageModel* model : {cpu.get(), gpu.get()}) model->start(310);
  const auto compare = [&](std::size_t begin, std::size_t count) {
    const auto piece = std::span(ids).subspan(begin, count);
    const std::span<const float> wanted = cpu->append(piece), have = gpu->append(piece);
    ASSERT_EQ(have.size(), wanted.size());
    for (std::size_t i = 0; i < have.size(); ++i) ASSERT_NEAR(have[i], wanted[i], 1e-4) << begin << " " << i;
  };
  compare(0, 300);  // two pieces
  for (std::size_t next = 300; next < 310; ++next) compare(next, 1);
  EXPECT_EQ(gpu->length(), 310);
  gpu->start(4);  // forgets, and needs no new memory
  cpu->start(4);
  compare(7, 3);
}

TEST_F(LanguageModelOn, TheDeviceIsTheGpuWhereThereIsOneUnlessTheCpuIsAskedFor) {
  EXPECT_EQ(choose_device("auto").kind, DeviceKind::kCuda);
  EXPECT_EQ(choose_device("cpu").kind, DeviceKind::kCpu);
}

}  // namespace
}  // namespace terroir::test
