#include <gtest/gtest.h>

#include "base/hash.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train.h"
#include "parallel/world.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/hf_folder.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/verify.h"
#include "trainer/interop/export_hf.h"
#include "trainer/interop/hf_weights.h"
#include "trainer/interop/import_hf.h"

namespace terroir {
namespace {

namespace fs = std::filesystem;
using test::small_model;
using test::tensors_of;
using test::write_json;
using test::write_weights;

class Interop : public ::testing::Test {
 protected:
  ImportHfReport import(bool overwrite = false) { return import_hf({hf_, checkpoint_, overwrite}); }
  ExportHfReport export_to(const fs::path& folder) { return export_hf({checkpoint_, folder}); }
  void expect_import_refused(const std::vector<std::string>& words) {
    expect_error(ExitCode::kCheckpoint, words, [&] { import(); });
    for (const auto& entry : fs::directory_iterator(folder_.path()))  // nothing half written
      EXPECT_EQ(entry.path().filename(), "hf");
  }

  TemporaryFolder folder_;
  fs::path hf_ = folder_ / "hf", checkpoint_ = folder_ / "checkpoint", out_ = folder_ / "out";
};

// Every tensor of `a` is in `b` with the same dtype, shape and bytes, and nothing else is.
void expect_same_weights(const fs::path& a, const fs::path& b) {
  const HfWeights left(a), right(b);
  EXPECT_EQ(left.entries().size(), right.entries().size());
  for (const auto& [name, entry] : left.entries()) {
    ASSERT_TRUE(right.entries().contains(name)) << name;
    EXPECT_TRUE(same_tensor(entry, right.entries().at(name))) << name;
  }
}

TEST_F(Interop, ImportThenExportGivesEveryBitBack) {
  for (const char* model_type : {"llama", "qwen2", "qwen3"})
    for (const bool tied : {false, true})
      for (const SafetensorsDType dtype : {SafetensorsDType::kF32, SafetensorsDType::kBF16}) {
        SCOPED_TRACE(fmt::format("{} tied {} {}", model_type, tied, safetensors_name(dtype)));
        test::write_hf_folder(hf_, small_model(model_type, tied), dtype);
        import(true);
        EXPECT_TRUE(verify_checkpoint(checkpoint_).empty());
        EXPECT_EQ(read_checkpoint_meta(checkpoint_).model, small_model(model_type, tied));
        export_hf({checkpoint_, out_, {}, 1'000'000, true});
        expect_same_weights(hf_, out_);
        EXPECT_EQ(model_from_hf_config(Json::parse(read_file(out_ / "config.json")), ""),
                  small_model(model_type, tied));
      }
}

TEST_F(Interop, ShardsOfAnySizeHoldTheSameTensors) {
  test::write_hf_folder(hf_, small_model("qwen2", false), SafetensorsDType::kF32);
  import();
  const ExportHfReport report = export_hf({checkpoint_, out_, {}, 3000, false});
  expect_same_weights(hf_, out_);
  const Json index = Json::parse(read_file(out_ / "model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], report.total_bytes);
  EXPECT_EQ(report.total_bytes, report.num_parameters * 4);
  std::set<std::string> shards;
  for (const auto& [name, file] : index["weight_map"].items()) shards.insert(file.get<std::string>());
  EXPECT_GT(shards.size(), 3U);
  EXPECT_TRUE(shards.contains(fmt::format("model-00001-of-{:05}.safetensors", shards.size())));
  // And back: a sharded folder is imported as a whole one is.
  import_hf({out_, folder_ / "again", false});
  EXPECT_TRUE(compare_checkpoints(checkpoint_, folder_ / "again").empty());
}

TEST_F(Interop, SmallFilesComeBackAsTheyWere) {
  test::write_hf_folder(hf_, small_model("llama", true), SafetensorsDType::kBF16);
  write_file_atomically(hf_ / "tokenizer.json", "{\"of\": \"another kind\"}");
  write_file_atomically(hf_ / "tokenizer_config.json", "{\"tokenizer_class\": \"LlamaTokenizerFast\"}");
  write_file_atomically(hf_ / "special_tokens_map.json", "{ }");
  write_file_atomically(hf_ / "generation_config.json", "{\"eos_token_id\": [1, 2]}");
  write_file_atomically(hf_ / "chat_template.jinja", "{% x %}");
  EXPECT_TRUE(import().has_tokenizer);
  EXPECT_EQ(read_checkpoint_meta(checkpoint_).tokenizer_sha256, sha256_hex("{\"of\": \"another kind\"}"));
  export_to(out_);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                           "generation_config.json", "chat_template.jinja"})
    EXPECT_EQ(read_file(out_ / name), read_file(hf_ / name)) << name;
}

TEST_F(Interop, ATokenizerClassOfTransformersFiveGetsTheNameThatFourKnowsToo) {
  test::write_hf_folder(hf_, small_model("llama", true), SafetensorsDType::kF32);
  write_file_atomically(hf_ / "tokenizer.json", "{}");
  const std::string limit = "{\"model_max_length\": 1000000000000000019884624838656, \"tokenizer_class\": ";
  write_file_atomically(hf_ / "tokenizer_config.json", limit + "\"TokenizersBackend\"}");
  import();
  export_to(out_);
  EXPECT_EQ(read_file(out_ / "tokenizer_config.json"), limit + "\"PreTrainedTokenizerFast\"}");
}

TEST_F(Interop, ExportHasTheDtypeOfTheImportUnlessTold) {
  test::write_hf_folder(hf_, small_model("llama", true), SafetensorsDType::kBF16);
  EXPECT_EQ(import().dtype, "bf16");
  EXPECT_EQ(export_to(out_).dtype, ExportDType::kBF16);
  export_hf({checkpoint_, folder_ / "f32", ExportDType::kF32});
  const Json config = Json::parse(read_file(folder_ / "f32/config.json"));
  EXPECT_EQ(config["torch_dtype"], "float32");
  EXPECT_EQ(config["dtype"], "float32");
  import_hf({folder_ / "f32", folder_ / "again", false});
  EXPECT_TRUE(compare_checkpoints(checkpoint_, folder_ / "again").empty());
}

TEST_F(Interop, ATiedHeadThatRepeatsTheEmbeddingIsDropped) {
  const ModelConfig model = small_model("llama", true);
  test::write_hf_folder(hf_, model, SafetensorsDType::kF32);
  const auto write_with_head = [&](char difference) {
    std::vector<SafetensorsTensor> tensors = tensors_of(model, SafetensorsDType::kF32);
    tensors.push_back({"lm_head.weight", SafetensorsDType::kF32, {37, 12}});
    tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", SafetensorsDType::kF32, {3}});
    SafetensorsWriter writer(hf_ / "model.safetensors", tensors);
    for (const SafetensorsTensor& tensor : writer.tensors()) {
      std::string bytes(tensor.end - tensor.begin, '\0');
      if (tensor.name == "lm_head.weight") bytes.back() = difference;
      writer.append(std::as_bytes(std::span(bytes)));
    }
    writer.commit();
  };
  write_with_head(1);
  expect_import_refused({"lm_head.weight: differs from model.embed_tokens.weight"});
  write_with_head(0);
  EXPECT_EQ(import().num_tensors, static_cast<std::int64_t>(hf_tensors(model).size()));
}

TEST_F(Interop, RefusesFoldersThatAreNotWhole) {
  const ModelConfig model = small_model("llama", false);
  const fs::path weights = hf_ / "model.safetensors";
  fs::create_directories(hf_);
  expect_import_refused({"config.json", "cannot open"});
  write_json(hf_ / "config.json", test::config_json(model, "float32"));
  expect_import_refused({hf_.string(), "has neither model.safetensors nor"});

  std::vector<SafetensorsTensor> tensors = tensors_of(model, SafetensorsDType::kF32);
  const SafetensorsTensor last = tensors.back();  // lm_head.weight
  tensors.pop_back();
  write_weights(weights, tensors);
  expect_import_refused(
      {"lm_head.weight: is missing in the weights; config.json does not say tie_word_embeddings"});

  tensors.push_back({"lm_head.weight", SafetensorsDType::kF32, {12, 37}});
  write_weights(weights, tensors);
  expect_import_refused({"lm_head.weight: has shape [12,37], config.json asks for [37,12]"});

  tensors.back() = {"lm_head.weight", SafetensorsDType::kI32, {37, 12}};
  write_weights(weights, tensors);
  expect_import_refused({"lm_head.weight: has dtype I32"});

  tensors.back() = last;
  tensors.push_back({"model.layers.2.mlp.up_proj.weight", SafetensorsDType::kF32, {1}});
  write_weights(weights, tensors);
  expect_import_refused({"model.layers.2.mlp.up_proj.weight: is not a tensor of such a model"});

  tensors.pop_back();
  write_weights(weights, tensors);
  fs::resize_file(weights, fs::file_size(weights) - 1);
  expect_import_refused({weights.string(), "truncated"});
}

TEST_F(Interop, RefusesAnIndexThatDoesNotFitItsShards) {
  const ModelConfig model = small_model("llama", true);
  fs::create_directories(hf_);
  write_json(hf_ / "config.json", test::config_json(model, "float32"));
  write_weights(hf_ / "a.safetensors", tensors_of(model, SafetensorsDType::kF32));
  const auto write_index = [&](const Json& map) {
    write_json(hf_ / "model.safetensors.index.json", {{"weight_map", map}});
  };
  write_index({{"t", "../hf/a.safetensors"}});
  expect_import_refused({"model.safetensors.index.json", "t: must name a file in the same folder"});
  write_index({{"t", 1}});
  expect_import_refused({"t: must name a file in the same folder"});
  write_index({{"t", "a.safetensors"}});
  expect_import_refused({"a.safetensors", "t: is not in this file, as the index says"});
  write_index({{"t", "b.safetensors"}});
  expect_import_refused({"b.safetensors", "cannot open"});
  write_weights(hf_ / "b.safetensors", {{"model.norm.weight", SafetensorsDType::kF32, {12}}});
  write_index({{"model.embed_tokens.weight", "a.safetensors"}, {"model.norm.weight", "b.safetensors"}});
  expect_import_refused({"model.norm.weight: is also in", "a.safetensors"});
  write_json(hf_ / "model.safetensors.index.json", Json::array());
  expect_import_refused({"model.safetensors.index.json"});
}

TEST_F(Interop, ReplacesOnlyFoldersOfItsOwnKindAndOnlyWhenAsked) {
  test::write_hf_folder(hf_, small_model("llama", true), SafetensorsDType::kF32);
  fs::create_directories(checkpoint_);  // an empty folder is as good as none
  import();
  expect_error(ExitCode::kUsage, {"checkpoint: is not empty", "--overwrite"}, [&] { import(); });
  import(true);
  EXPECT_TRUE(verify_checkpoint(checkpoint_).empty());
  write_file_atomically(folder_ / "diary.txt", "dear diary");
  expect_error(ExitCode::kUsage, {"has no config.json", "something else"}, [&] {
    export_hf({checkpoint_, folder_.path(), {}, 1000, true});
  });
  expect_error(ExitCode::kUsage, {"is not a folder"}, [&] { export_to(folder_ / "diary.txt"); });
  EXPECT_EQ(read_file(folder_ / "diary.txt"), "dear diary");
}

TEST_F(Interop, AFailedExportLeavesNothing) {
  test::write_hf_folder(hf_, small_model("llama", true), SafetensorsDType::kF32);
  import();
  std::string text = read_file(checkpoint_ / "rank-00000.safetensors");
  text.back() = static_cast<char>(text.back() ^ 1);
  write_file_atomically(checkpoint_ / "rank-00000.safetensors", text);
  expect_error(ExitCode::kCheckpoint, {"rank-00000.safetensors", "damaged"}, [&] { export_to(out_); });
  EXPECT_FALSE(fs::exists(out_));
  EXPECT_FALSE(fs::exists(folder_ / "out.tmp"));
}

std::string trained_tokenizer() {
  WordCounter counter({});
  counter.add_text("the cat sat on the mat; the cat ate the rat");
  TrainOptions options;
  options.vocab_size = 270;
  return tokenizer_json(train_bpe(counter.take(), options));
}

// A checkpoint as training leaves it: no files of another program in it.
void save_trained(const std::filesystem::path& run, const ModelConfig& model) {
  write_file_atomically(run / "tokenizer.json", trained_tokenizer());
  CheckpointMeta meta;
  meta.step = 30;
  meta.model = model;
  meta.extra = {{"name", "gado-gado"}, {"languages", {"id", "jv"}}, {"licenses", {"CC-BY-SA-4.0"}}};
  std::vector<float> values(1000, 0.5f);
  std::vector<StateSlice> slices;
  for (const NamedShape& tensor : hf_tensors(model))
    for (const char* state : {"weight", "exp_avg"})
      slices.push_back(whole_slice(tensor.name, state, tensor.shape, values.data()));
  const auto control = local_world()->group({0}, Queue::kControl, "control");
  save_checkpoint(run / "checkpoints", meta, slices, run / "tokenizer.json", *control);
}

TEST_F(Interop, ATrainedModelBecomesACompleteFolder) {
  save_trained(folder_.path(), small_model("qwen3", true));
  const ExportHfReport report = export_hf({resolve_checkpoint(folder_.path()), out_});
  EXPECT_EQ(report.dtype, ExportDType::kF32);
  EXPECT_EQ(read_file(out_ / "tokenizer.json"), trained_tokenizer());
  const Json config = Json::parse(read_file(out_ / "config.json"));
  EXPECT_EQ(config["bos_token_id"], 0);
  EXPECT_EQ(config["eos_token_id"], 1);
  const Json tokenizer = Json::parse(read_file(out_ / "tokenizer_config.json"));
  EXPECT_EQ(tokenizer["tokenizer_class"], "PreTrainedTokenizerFast");
  EXPECT_EQ(tokenizer["bos_token"], "<|begin_of_text|>");
  EXPECT_EQ(tokenizer["eos_token"], "<|end_of_text|>");
  EXPECT_EQ(tokenizer["model_max_length"], 64);
  EXPECT_EQ(tokenizer["clean_up_tokenization_spaces"], false);
  EXPECT_EQ(Json::parse(read_file(out_ / "special_tokens_map.json")),
            (Json{{"bos_token", "<|begin_of_text|>"}, {"eos_token", "<|end_of_text|>"}}));
  EXPECT_EQ(Json::parse(read_file(out_ / "generation_config.json")),
            (Json{{"_from_model_config", true}, {"bos_token_id", 0}, {"eos_token_id", 1}}));
  const std::string card = read_file(out_ / "README.md");
  for (const char* words :
       {"# gado-gado", "- \"jv\"", "| Languages | id, jv |", "CC-BY-SA-4.0", "| Optimizer steps | 30 |"})
    EXPECT_NE(card.find(words), std::string::npos) << words << "\n" << card;
  EXPECT_TRUE(report.warnings.empty());
}

// tests/parity/model_parity.py shows what transformers does with such a folder.
TEST_F(Interop, AQwen2WithATokenizerOfItsOwnIsExportedWithAWarning) {
  save_trained(folder_.path(), small_model("qwen2", true));
  const ExportHfReport report = export_hf({resolve_checkpoint(folder_.path()), out_});
  ASSERT_EQ(report.warnings.size(), 1u);
  EXPECT_NE(report.warnings[0].find("PreTrainedTokenizerFast.from_pretrained"), std::string::npos);
}

TEST_F(Interop, ALlamaThatTransformersWouldNotLoadIsNotExported) {
  ModelConfig model = small_model("llama", true);
  model.hidden_size = 13;  // three heads do not divide it
  test::write_hf_folder(hf_, model, SafetensorsDType::kF32);
  import();
  expect_error(ExitCode::kCheckpoint, {"hidden_size 13 is not a multiple of num_attention_heads 3"},
               [&] { export_to(out_); });
  EXPECT_FALSE(fs::exists(out_));
}

TEST(ParseSize, KnowsDecimalAndBinaryUnits) {
  EXPECT_EQ(parse_size("17"), 17);
  EXPECT_EQ(parse_size("5GB"), 5'000'000'000);
  EXPECT_EQ(parse_size("2MiB"), 2 << 20);
  for (const char* bad : {"", "GB", "-1GB", "0", "5 GB", "5G", "1.5GB", "99999999999GB"})
    expect_error(ExitCode::kUsage, {"is not a size"}, [&] { parse_size(bad); });
}

}  // namespace
}  // namespace terroir
