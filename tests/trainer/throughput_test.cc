#include "trainer/step/throughput.h"

#include <gtest/gtest.h>

namespace terroir {
namespace {

// Two layers of hidden 8, 4 heads of 2, 2 key/value heads, intermediate 12, vocabulary 10: a layer has
// 8 x (8 + 4 + 4 + 8) + 3 x 8 x 12 = 480 weights, all have 2 x 480 + 80 = 1040. Attention over 5 tokens: 12 x
// 2 x 8 x 5 = 960 for all pairs.
TEST(FlopsPerToken, CountWeightsSixTimesAndAttentionWithOrWithoutWhatIsMasked) {
  ModelConfig config;
  config.hidden_size = 8;
  config.intermediate_size = 12;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 2;
  config.vocab_size = 10;
  EXPECT_EQ(flops_per_token(config, 5, AttentionPairs::kAll), 6 * 1040 + 960);
  EXPECT_EQ(flops_per_token(config, 5), 6 * 1040 + 480);
}

}  // namespace
}  // namespace terroir
