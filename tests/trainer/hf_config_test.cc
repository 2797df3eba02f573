#include "trainer/interop/hf_config.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"
#include "tests/trainer/hf_folder.h"

namespace terroir {
namespace {

using test::small_model;

ModelConfig scaled_model(const std::string& model_type) {
  ModelConfig model = small_model(model_type, true);
  model.rope_scaling = {"llama3", 8, 1, 4, 32};
  return model;
}

ModelConfig parse(const Json& config) { return model_from_hf_config(config, "config.json"); }

TEST(HfConfig, ComesBackAsItWasInBothDialectsAndEither) {
  for (const char* model_type : {"llama", "qwen2", "qwen3"}) {
    for (const ModelConfig& model : {small_model(model_type, false), scaled_model(model_type)}) {
      const Json both = hf_config_of(model, {"bfloat16", 1, 2}, Json::object());
      EXPECT_EQ(parse(both), model) << both.dump();
      Json four = both, five = both;
      for (const char* key : {"rope_parameters", "dtype"}) four.erase(key);
      for (const char* key : {"rope_theta", "rope_scaling", "torch_dtype"}) five.erase(key);
      EXPECT_EQ(parse(four), model) << four.dump();
      EXPECT_EQ(parse(five), model) << five.dump();
    }
  }
}

TEST(HfConfig, SaysTheSameToReadersOfBothDialects) {
  const Json config = hf_config_of(scaled_model("llama"), {"float32", 1, std::nullopt}, Json::object());
  EXPECT_EQ(config["rope_theta"], config["rope_parameters"]["rope_theta"]);
  EXPECT_EQ(config["rope_scaling"]["factor"], config["rope_parameters"]["factor"]);
  EXPECT_EQ(config["torch_dtype"], "float32");
  EXPECT_EQ(config["dtype"], "float32");
  EXPECT_EQ(config["bos_token_id"], 1);
  EXPECT_TRUE(config["eos_token_id"].is_null());
  EXPECT_EQ(config["architectures"], Json::array({"LlamaForCausalLM"}));
}

TEST(HfConfig, KeepsWhatAnImportedConfigSaidBeside) {
  const Json base{{"bos_token_id", 7},
                  {"eos_token_id", {8, 9}},
                  {"transformers_version", "4.51.0"},
                  {"torch_dtype", "bfloat16"}};
  const Json config = hf_config_of(small_model("llama", true), {"float32", 1, 2}, base);
  EXPECT_EQ(config["bos_token_id"], 7);
  EXPECT_EQ(config["eos_token_id"], Json::array({8, 9}));
  EXPECT_EQ(config["transformers_version"], "4.51.0");
  EXPECT_EQ(config["torch_dtype"], "float32");
}

TEST(HfConfig, TakesTransformersDefaultsForAbsentKeys) {
  const Json least{{"model_type", "llama"},          {"vocab_size", 10},       {"hidden_size", 16},
                   {"intermediate_size", 24},        {"num_hidden_layers", 1}, {"num_attention_heads", 4},
                   {"num_key_value_heads", nullptr}, {"head_dim", nullptr}};
  const ModelConfig model = parse(least);
  EXPECT_EQ(model.num_key_value_heads, 4);
  EXPECT_EQ(model.head_dim, 4);
  EXPECT_EQ(model.rms_norm_eps, 1e-6);
  EXPECT_EQ(model.rope_theta, 10000);
  EXPECT_EQ(model.max_position_embeddings, 2048);
  EXPECT_FALSE(model.tie_word_embeddings);
  Json qwen3 = least;
  qwen3["model_type"] = "qwen3";
  qwen3.erase("head_dim");
  EXPECT_EQ(parse(qwen3).head_dim, 128);
}

struct Refused {
  const char* patch;  // merged into a good config
  const char* words;
};

TEST(HfConfig, RefusesWhatItWouldComputeDifferently) {
  const std::vector<Refused> cases{
      {R"({"model_type": "mistral"})", "model_type: is \"mistral\"; llama, qwen2 and qwen3"},
      {R"({"architectures": ["LlamaForSequenceClassification"]})",
       "architectures: must be [\"LlamaForCausalLM\"]"},
      {R"({"attention_bias": true})", "attention_bias: is true"},
      {R"({"mlp_bias": true})", "mlp_bias: is true"},
      {R"({"use_sliding_window": true})", "use_sliding_window: is true"},
      {R"({"layer_types": ["full_attention", "sliding_attention"]})",
       "layer_types: holds \"sliding_attention\""},
      {R"({"hidden_act": "gelu"})", "hidden_act: is \"gelu\""},
      {R"({"partial_rotary_factor": 0.5})", "partial_rotary_factor: is not 1"},
      {R"({"quantization_config": {"bits": 4}})", "quantization_config: is there"},
      {R"({"rope_scaling": {"type": "linear", "factor": 2}})", "rope_scaling.rope_type: is \"linear\""},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 2}})", "rope_scaling.rope_type: is \"yarn\""},
      {R"({"rope_scaling": {"rope_type": "llama3"}})", "rope_scaling.factor: is missing"},
      {R"({"rope_parameters": {"rope_theta": 500}})",
       "rope_parameters.rope_theta: is 500 but rope_theta is 12345"},
      {R"({"rope_parameters": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,)"
       R"( "original_max_position_embeddings": 32}})",
       "rope_parameters: says something else than rope_scaling"},
      {R"({"dtype": "float32"})", "dtype: is \"float32\" but torch_dtype is \"bfloat16\""},
      {R"({"num_key_value_heads": 2})", "num_key_value_heads: 2 does not divide num_attention_heads 3"},
      {R"({"head_dim": 5})", "head_dim: 5 is odd"},
      {R"({"hidden_size": 0})", "hidden_size: is 0"},
      {R"({"vocab_size": 4294967296})", "vocab_size: is 4294967296"},
      {R"({"vocab_size": "many"})", "vocab_size: must be an integer"},
      {R"({"rms_norm_eps": 0})", "rms_norm_eps: is 0"},
  };
  for (const Refused& item : cases) {
    Json config = test::config_json(small_model("llama", true), "bfloat16");
    config.update(Json::parse(item.patch));
    expect_error(ExitCode::kCheckpoint, {"config.json: ", item.words}, [&] { parse(config); });
  }
  expect_error(ExitCode::kCheckpoint, {"model_type: is missing"}, [&] { parse(Json::object()); });
  expect_error(ExitCode::kCheckpoint, {"must be an object"}, [&] { parse(Json::array()); });
}

}  // namespace
}  // namespace terroir
