#include "trainer/config/config_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/philox.h"
#include "tests/support/temporary_folder.h"
#include "trainer/config/yaml_tree.h"

namespace terroir {
namespace {

// The whole of a small valid configuration; tests change one thing in it.
constexpr const char* kValid = R"(run:
  name: tiny
model:
  hidden_size: 64
  intermediate_size: 128
  num_hidden_layers: 4
  num_attention_heads: 8
  num_key_value_heads: 4
tokenizer: t.json
data:
  sequence_length: 32
  stages:
    - sources: {ko: 0.5, ar: 0.5}
  sources:
    ko: {shards: "ko/*.h5", language: ko}
    ar: {shards: "ar/*.h5", language: ar}
train:
  steps: 10
)";

// What a configuration is refused with, one "place: message" per line.
std::string refusal(const std::string& text, std::vector<std::string> overrides = {}, int world_size = 0) {
  try {
    parse_config(text, "c.yaml", overrides, world_size);
  } catch (const UserError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
    return error.what();
  }
  return "accepted";
}

// The same for one override of the valid configuration.
std::string override_refusal(const std::string& text) { return refusal(kValid, {text}); }

TEST(ConfigFile, TheInterfaceExampleIsRead) {
  const Config config = parse_config(R"(
run:       {name: quickstart, dir: runs, seed: 1234}
device:    auto                      # auto | cpu | cuda
model:     {hidden_size: 256, intermediate_size: 704, num_hidden_layers: 8, num_attention_heads: 8,
            num_key_value_heads: 4, vocab_size: from_tokenizer, rms_norm_eps: 1e-5, rope_theta: 500000,
            tie_word_embeddings: true, initializer_range: 0.02}
tokenizer: data/quickstart/tokenizer.json
data:
  sequence_length: 256
  stages:                            # mixtures may change over the run; cursors per source are exact
    - {sources: {ko: 0.5}}
  sources:
    ko: {shards: "data/quickstart/ko/*.h5", language: ko, license: MPL-2.0}
parallel:  {tensor: 2, pipeline: 2, context: 1, schedule: 1f1b, zero: 1, sequence_parallel: true}   # data: what is left
train:     {steps: 300, global_batch_size: 32, micro_batch_size: 4, recompute: none}
optimizer: {name: adamw, lr: 1e-3, betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.1, grad_clip: 1.0}
schedule:  {name: wsd, warmup_steps: 30, decay_steps: 60, final_lr: 0.1}
checkpoint: {every: 100, keep_last: 2}
eval:      {every: 50}
)",
                                     "c.yaml", {}, 4);
  EXPECT_EQ(config.run.name, "quickstart");
  EXPECT_EQ(config.model.rope_theta, 500000);
  EXPECT_TRUE(config.vocab_size_from_tokenizer);
  EXPECT_EQ(config.data.sources.at("ko").license, "MPL-2.0");
  EXPECT_EQ(config.optimizer.beta2, 0.95);
  EXPECT_EQ(config.checkpoint.resume, "auto");
}

TEST(ConfigFile, HeadSizeAndLongestContextAreResolved) {
  const Config config = parse_config(kValid, "c.yaml");
  EXPECT_EQ(config.model.head_dim, 8);  // 64 / 8
  EXPECT_EQ(config.model.max_position_embeddings, 32);
}

TEST(ConfigFile, AllProblemsAreReportedAtOnceWithTheirPlaces) {
  EXPECT_EQ(
      refusal(R"(run: {name: a/b}
modle: {}
model:
  hidden_size: "64"
  num_attention_heads: 7
tokenizer: t.json
data:
  sequence_length: 0
  stages: [{sources: {ko: 1}}]
  sources:
    ko: {shards: x, shards: y}
train: {}
)"),
      "c.yaml:11:21: data.sources.ko.shards: duplicate key, first given on line 11: keep one\n"
      "c.yaml:2:1: modle: unknown key: did you mean model?\n"
      "c.yaml:4:16: model.hidden_size: expected an integer, got the quoted text \"64\": remove the quotes\n"
      "c.yaml:8:20: data.sequence_length: 0 is out of range: give 1 to 16777216\n"
      "c.yaml:12:8: train.steps: missing, and it has no default: add it (Optimizer steps of the whole run.)\n"
      "c.yaml:1:13: run.name: \"a/b\" is no plain folder name: use letters, digits, -, _ and ., beginning "
      "with a "
      "letter or digit\n"
      "c.yaml:4:3: model.num_key_value_heads: 4 does not divide model.num_attention_heads (7): give a "
      "divisor");
}

TEST(ConfigFile, MissingRequiredKeysAreNamed) {
  const std::string all = refusal("");
  for (const char* key : {"run.name", "tokenizer", "data.stages", "data.sources", "train.steps"})
    EXPECT_NE(all.find(std::string("c.yaml: ") + key + ": missing, and it has no default"), std::string::npos)
        << key << "\n"
        << all;
}

TEST(ConfigFile, EmptySectionMeansDefaults) {
  EXPECT_EQ(parse_config(std::string(kValid) + "optimizer:\n", "c.yaml"), parse_config(kValid, "c.yaml"));
}

TEST(ConfigFile, FileIsReadAndNamedInErrors) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "config.yaml";
  std::ofstream(path) << kValid;
  EXPECT_EQ(load_config(path).train.steps, 10);
  std::ofstream(path) << "run: 3\n";
  try {
    load_config(path);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.problems()[0].place.file, path.string());
    EXPECT_EQ(error.problems()[0].message, "expected a section of keys, got \"3\"");
  }
  std::filesystem::remove(path);
  EXPECT_THROW(load_config(path), UserError);
}

TEST(ConfigFile, TextBeyondOneMebibyteIsRefusedUnread) {
  EXPECT_EQ(refusal(std::string(kMaxYamlBytes + 1, '[')),
            "c.yaml: 1048577 bytes are no configuration: at most 1048576 are read");
}

struct Refusal {
  const char* name;
  const char* text;
  const char* message;
};

class ConfigYaml : public testing::TestWithParam<Refusal> {};

TEST_P(ConfigYaml, IsRefusedAtItsPlace) {
  const std::string all = refusal(GetParam().text);
  EXPECT_EQ(all.substr(0, all.find('\n')), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Syntax, ConfigYaml,
    testing::Values(
        Refusal{"Anchor", "run: &a {name: x}\n",
                "c.yaml:1:6: run: anchors (&name) are not read: write the value out where it is used"},
        Refusal{"Alias", "run: {name: x}\ndevice: *a\n",
                "c.yaml:2:9: aliases (*name) are not read: write the value out, or put a text in quotes"},
        Refusal{"MergeKey", "run: {<<: {name: x}}\n",
                "c.yaml:1:7: run.<<: merge keys (<<) are not read: write the keys out"},
        Refusal{"Tag", "device: !!str cpu\n",
                "c.yaml:1:9: device: tags (tag:yaml.org,2002:str) are not read: remove it"},
        Refusal{"SecondDocument", "device: cpu\n---\ndevice: cpu\n",
                "c.yaml:2:1: a second YAML document begins here: keep one"},
        Refusal{"TabIndentation", "run:\n\tname: x\n",
                "c.yaml:2:1: not valid YAML: a tab indents this line: use spaces"},
        Refusal{"Unclosed", "run: {name: x\n", "c.yaml:2:1: not valid YAML: end of map flow not found"},
        Refusal{"DuplicateKey", "device: cpu\n\ndevice: cuda\n",
                "c.yaml:3:1: device: duplicate key, first given on line 1: keep one"},
        Refusal{"ListAsKey", "[a, b]: c\n", "c.yaml:1:1: a key must be a plain word, not a list"},
        Refusal{"ListAsFile", "- run\n", "c.yaml:1:1: expected a section of keys, got a list"},
        Refusal{"InvalidUtf8", "device: c\xFFpu\n",
                "c.yaml:1:9: device: not valid UTF-8: save the file as UTF-8"},
        Refusal{"UnknownKeyOfASection", "train: {lernrate: 1}\n",
                "c.yaml:1:9: train.lernrate: unknown key: this section has steps, global_batch_size, "
                "micro_batch_size, recompute, attention, threads, gemm_candidates"},
        Refusal{"KeyOfAnotherSection", "train: {lr: 1}\n",
                "c.yaml:1:9: train.lr: unknown key: did you mean optimizer.lr?"},
        Refusal{"DataRanks", "parallel: {data: 2}\n",
                "c.yaml:1:12: parallel.data: unknown key: data parallelism is what tensor x pipeline x "
                "context leave of the ranks"},
        Refusal{"NoValue", "train:\n  steps:\n", "c.yaml:2:3: train.steps: expected an integer, got nothing"},
        Refusal{"SourceNameWithADot", "data: {sources: {a.b: {shards: x}}}\n",
                "c.yaml:1:18: data.sources.a.b: a source's name has letters, digits, - and _ only"},
        Refusal{"EmptyStages", "data: {stages: []}\n",
                "c.yaml:1:16: data.stages: the list is empty: give one item"},
        Refusal{"EmptySources", "data: {sources: {}}\n",
                "c.yaml:1:17: data.sources: the section is empty: name a source"},
        Refusal{"SourceWithoutShards", "data: {sources: {ko: {language: ko}}}\n",
                "c.yaml:1:22: data.sources.ko.shards: missing, and it has no default: add it (Glob of the "
                "source's HDF5 shards, such as `data/ko/*.h5`.)"}),
    [](const auto& info) { return info.param.name; });

TEST(ConfigYaml, DeepNestingIsRefusedWithoutACrash) {
  EXPECT_NE(refusal(std::string(100000, '[')).find("not valid YAML"), std::string::npos);
}

TEST(ConfigYaml, DamagedTextIsReadOrRefusedNeverMore) {
  // Bytes replaced, removed and doubled at random; anything but a Config or a UserError fails the test.
  const PhiloxKey key = philox_key(2, "damage");
  const std::string alphabet = "{}[]:,-#&*!|>'\"%@`\n \t\\?~0xe.\xFF";
  for (std::uint64_t trial = 0; trial < 2000; ++trial) {
    std::string text = kValid;
    for (std::uint64_t edit = 0; edit < 1 + trial % 4; ++edit) {
      const std::uint64_t bits = philox_bits(key, trial * 8 + edit);
      const std::size_t at = bits % text.size();
      const char byte = alphabet[(bits >> 20) % alphabet.size()];
      if (bits >> 60 < 6)
        text[at] = byte;
      else if (bits >> 60 < 11)
        text.insert(at, 1, byte);
      else
        text.erase(at, 1 + (bits >> 40) % 20);
    }
    EXPECT_NO_THROW(refusal(text)) << text;
  }
}

struct BadOverride {
  const char* text;
  const char* message;  // behind "command line: "
};

class ConfigOverride : public testing::TestWithParam<BadOverride> {};

TEST_P(ConfigOverride, IsRefusedByName) {
  EXPECT_EQ(override_refusal(GetParam().text), std::string("command line: ") + GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Grammar, ConfigOverride,
    testing::Values(
        BadOverride{"steps", "\"steps\" is no override: write key.path=value"},
        BadOverride{"=3", "\"=3\" is no override: write key.path=value"},
        BadOverride{"train.step=3", "train.step: unknown key: did you mean steps?"},
        BadOverride{"train.steps=[3", "train.steps: not valid YAML: end of sequence flow not found"},
        BadOverride{"train.steps={a: 1, a: 2}", "train.steps.a: duplicate key, first given: keep one"},
        BadOverride{"data.stages.7.sources.ko=1", "data.stages.7: no such place in a list of 1: give 0 to 1"},
        BadOverride{"data.stages.x.sources.ko=1", "data.stages.x: no such place in a list of 1: give 0 to 1"},
        BadOverride{"data.sources.ko.shards=*.h5",
                    "data.sources.ko.shards: aliases (*name) are not read: write the value out, or put a "
                    "text in quotes"},
        BadOverride{"device.x=1", "device: expected a text, got a section"},
        BadOverride{"model=3", "model: expected a section of keys, got \"3\""},
        BadOverride{"data.sources.hi.language=hi",
                    "data.sources.hi.shards: missing, and it has no default: add it (Glob of the source's "
                    "HDF5 shards, such as `data/ko/*.h5`.)"}));

INSTANTIATE_TEST_SUITE_P(
    Values, ConfigOverride,
    testing::Values(
        BadOverride{"train.steps=abc", "train.steps: expected an integer, got \"abc\""},
        BadOverride{"train.steps=1.5", "train.steps: expected an integer, got 1.5: give a whole number"},
        BadOverride{"train.steps=010",
                    "train.steps: \"010\" is octal to some readers: write the number without leading zeros"},
        BadOverride{"train.steps=0x10", "train.steps: \"0x10\" is not decimal: write the number in decimal"},
        BadOverride{"train.steps=1_000", "train.steps: \"1_000\" has underscores: write the digits only"},
        BadOverride{"train.steps=0", "train.steps: 0 is out of range: give 1 to 1000000000"},
        BadOverride{"train.steps=[1]", "train.steps: expected an integer, got a list"},
        BadOverride{"train.steps=99999999999999999999",
                    "train.steps: 99999999999999999999 does not fit the key's integer"},
        BadOverride{"run.seed=-1", "run.seed: -1 does not fit the key's integer"},
        BadOverride{"parallel.tensor=3e9", "parallel.tensor: 3e9 does not fit the key's integer"},
        BadOverride{"optimizer.lr=.nan", "optimizer.lr: \".nan\" is no number"},
        BadOverride{"optimizer.lr=nan", "optimizer.lr: \"nan\" is not finite: give a finite number"},
        BadOverride{"optimizer.lr=1e999", "optimizer.lr: 1e999 does not fit a 64-bit number"},
        BadOverride{"optimizer.lr=0", "optimizer.lr: 0 is out of range: give above 0"},
        BadOverride{"optimizer.lr=\"1\"",
                    "optimizer.lr: expected a number, got the quoted text \"1\": remove the quotes"},
        BadOverride{"optimizer.betas=0.9",
                    "optimizer.betas: expected two numbers such as [0.9, 0.95], got \"0.9\""},
        BadOverride{"optimizer.betas=[0.9]",
                    "optimizer.betas: expected two numbers such as [0.9, 0.95], got a list of 1"},
        BadOverride{"optimizer.betas=[0.9, 1]",
                    "optimizer.betas: 1 is out of range: give at least 0 and below 1"},
        BadOverride{"schedule.final_lr=1.5", "schedule.final_lr: 1.5 is out of range: give 0 to 1"},
        BadOverride{"model.tie_word_embeddings=yes",
                    "model.tie_word_embeddings: expected true or false, got \"yes\""},
        BadOverride{"model.vocab_size=big",
                    "model.vocab_size: expected an integer, got \"big\", or from_tokenizer"},
        BadOverride{"train.attention=flash", "train.attention: \"flash\" is not one of auto, cudnn, own"},
        BadOverride{"device=gpu", "device: \"gpu\" is not one of auto, cpu, cuda: did you mean cpu?"},
        BadOverride{"run.dir=\"\"", "run.dir: the text is empty: give one"},
        BadOverride{"run.dir=\"a\\tb\"", "run.dir: control characters in the text: remove them"},
        BadOverride{"parallel.layers_per_stage=4",
                    "parallel.layers_per_stage: expected a list of integers such as [3, 5], got \"4\""},
        BadOverride{"data.stages.0.sources.ko=-1",
                    "data.stages.0.sources.ko: -1 is out of range: give at least 0"}));

INSTANTIATE_TEST_SUITE_P(
    Planned, ConfigOverride,
    testing::Values(
        BadOverride{"parallel.zero=0", "parallel.zero: 0 is planned but not built: give 1"},
        BadOverride{"parallel.zero=2", "parallel.zero: 2 is planned but not built: give 1"},
        BadOverride{"parallel.zero=3", "parallel.zero: 3 is planned but not built: give 1"},
        BadOverride{"parallel.zero=4", "parallel.zero: 4 is out of range: give 0 to 3"},
        BadOverride{"parallel.context=2", "parallel.context: 2 is planned but not built: give 1"},
        BadOverride{"parallel.schedule=zero_bubble",
                    "parallel.schedule: zero_bubble is planned but not built: give 1f1b, gpipe"},
        BadOverride{"parallel.schedule=interleaved_1f1b",
                    "parallel.schedule: interleaved_1f1b is planned but not built: give 1f1b, gpipe"},
        BadOverride{"optimizer.name=muon", "optimizer.name: muon is planned but not built: give adamw"},
        BadOverride{"train.recompute=selective",
                    "train.recompute: selective is planned but not built: give none, full"},
        BadOverride{"model.rope_scaling.rope_type=yarn",
                    "model.rope_scaling.rope_type: yarn is planned but not built: give default, llama3"},
        BadOverride{"data.stages.1.sources.ko=1",
                    "data.stages.1: several mixtures over a run are planned but not built: keep one"}));

INSTANTIATE_TEST_SUITE_P(
    BetweenKeys, ConfigOverride,
    testing::Values(
        BadOverride{"run.name=..",
                    "run.name: \"..\" is no plain folder name: use letters, digits, -, _ and ., beginning "
                    "with a letter or digit"},
        BadOverride{"model.hidden_size=60",
                    "model.hidden_size: 60 is not a multiple of model.num_attention_heads (8): change one, "
                    "or give model.head_dim"},
        BadOverride{"model.hidden_size=72",
                    "model.hidden_size: 72 / 8 heads is a head of 9: rotary embedding needs an even size"},
        BadOverride{"model.head_dim=9", "model.head_dim: 9 is odd: rotary embedding needs an even size"},
        BadOverride{
            "model.num_key_value_heads=3",
            "model.num_key_value_heads: 3 does not divide model.num_attention_heads (8): give a divisor"},
        BadOverride{
            "model.max_position_embeddings=16",
            "model.max_position_embeddings: 16 is less than data.sequence_length (32): raise it, or give 0"},
        BadOverride{"model.rope_scaling={factor: 8}",
                    "model.rope_scaling.rope_type: without scaling the section's other keys do nothing: give "
                    "rope_type: llama3, or rope_scaling: null"},
        BadOverride{"model.rope_scaling={rope_type: llama3, low_freq_factor: 4}",
                    "model.rope_scaling.low_freq_factor: 4 is not below high_freq_factor (4): between the "
                    "two, scaling goes from full to none"},
        BadOverride{"data.stages.0.sources={kr: 1}",
                    "data.stages.0.sources.kr: no such source in data.sources: did you mean ar?"},
        BadOverride{"data.stages.0.sources={english: 1}",
                    "data.stages.0.sources.english: no such source in data.sources: it has ar, ko"},
        BadOverride{"data.stages.0.sources={ko: 0}",
                    "data.stages.0.sources: the weights' sum is 0: give one source a weight above 0"},
        BadOverride{"data.stages.0.sources={ko: 1e308, ar: 1e308}",
                    "data.stages.0.sources: the weights' sum is not finite: give smaller weights"},
        BadOverride{
            "parallel.tensor=3",
            "parallel.tensor: 3 tensor ranks do not divide model.num_attention_heads (8): give a divisor"},
        BadOverride{
            "parallel.pipeline=5",
            "parallel.pipeline: 5 stages are more than model.num_hidden_layers (4): give at most that"},
        BadOverride{
            "parallel.layers_per_stage=[2, 2]",
            "parallel.layers_per_stage: 2 entries for parallel.pipeline = 1 stages: give one for each"},
        BadOverride{
            "parallel.layers_per_stage=[3]",
            "parallel.layers_per_stage: 3 = 3 layers, and model.num_hidden_layers is 4: make them equal"},
        BadOverride{"train.micro_batch_size=5",
                    "train.micro_batch_size: 5 does not divide train.global_batch_size (32): give a divisor"},
        BadOverride{
            "schedule={name: cosine, decay_steps: 2}",
            "schedule.decay_steps: only schedule.name = wsd has decay steps, and it is cosine: give 0"},
        BadOverride{
            "schedule={warmup_steps: 5, decay_steps: 6}",
            "schedule.warmup_steps: 5 warm-up + 6 decay steps are more than train.steps (10): give fewer"},
        BadOverride{"precision.master=bf16",
                    "precision.master: bf16 needs bf16 weights in layers: give precision.compute=bf16 too "
                    "(auto now)"},
        BadOverride{"precision={compute: f32, gradients: bf16, reduction: bf16}",
                    "precision.gradients: bf16 needs bf16 weights in layers: give precision.compute=bf16 too "
                    "(f32 now)"},
        BadOverride{"precision={compute: bf16, gradients: bf16}",
                    "precision.gradients: gradients that are kept in bf16 are reduced in it: give "
                    "precision.reduction=bf16 too"}));

TEST(ConfigFile, IntegersMayBeWrittenWithAnExponent) {
  const std::vector<std::string> overrides = {"train.steps=3e8", "run.seed=18446744073709551615",
                                              "train.global_batch_size=2.4e1"};
  const Config config = parse_config(kValid, "c.yaml", overrides);
  EXPECT_EQ(config.train.steps, 300000000);
  EXPECT_EQ(config.run.seed, 18446744073709551615u);
  EXPECT_EQ(config.train.global_batch_size, 24);
}

TEST(ConfigFile, OverridesReachIntoSectionsListsAndMapsAndTheLastWins) {
  const std::vector<std::string> overrides = {"train.steps=5",
                                              "train.steps=6",
                                              "data.stages.0.sources.ko=0.25",
                                              "data.sources.tl={shards: 'tl/*.h5'}",
                                              "data.stages.0.sources.tl=1",
                                              "optimizer.betas=[0.8, 0.99]",
                                              "init_from=runs/a=b",
                                              "run.name=no"};
  const Config config = parse_config(kValid, "c.yaml", overrides);
  EXPECT_EQ(config.train.steps, 6);
  EXPECT_EQ(config.data.stages.at(0).sources,
            (std::map<std::string, double>{{"ar", 0.5}, {"ko", 0.25}, {"tl", 1}}));
  EXPECT_EQ(config.data.sources.at("tl").shards, "tl/*.h5");
  EXPECT_EQ(config.optimizer.beta1, 0.8);
  EXPECT_EQ(config.init_from, "runs/a=b");
  EXPECT_EQ(config.run.name, "no");  // a word, not a boolean
}

TEST(ConfigFile, OverridesAloneMakeAConfiguration) {
  const std::vector<std::string> overrides = {"run.name=x", "tokenizer=t.json", "data.stages.0.sources.ko=1",
                                              "data.sources.ko.shards='*.h5'", "train.steps=1"};
  EXPECT_EQ(parse_config("", "c.yaml", overrides).data.sources.at("ko").shards, "*.h5");
}

TEST(ConfigWorld, LayoutAndBatchMustFactorAndTheNumbersAreNamed) {
  const std::vector<std::string> overrides = {"parallel={tensor: 2, pipeline: 2}",
                                              "train.global_batch_size=8", "train.micro_batch_size=4"};
  EXPECT_EQ(
      refusal(kValid, overrides, 6),
      "command line: parallel: 6 ranks are not a multiple of tensor 2 x pipeline 2 x context 1 = 4: start a "
      "multiple of 4 ranks, or change the layout");
  EXPECT_EQ(refusal(kValid, overrides, 12),
            "command line: train.global_batch_size: 8 is not a multiple of 3 data ranks x "
            "train.micro_batch_size 4 = "
            "12: change one (12 ranks = tensor 2 x pipeline 2 x context 1 x data 3)");
  EXPECT_EQ(refusal(kValid, overrides, 8), "accepted");
  const Config config = parse_config(kValid, "c.yaml", overrides);
  EXPECT_TRUE(validate(config).empty());
  EXPECT_EQ(validate_for_world(config, 8).size(), 0u);
  ASSERT_EQ(validate_for_world(config, 12).size(), 1u);
  EXPECT_EQ(validate_for_world(config, 12)[0].place.key, "train.global_batch_size");
  EXPECT_EQ(validate_for_world(config, 3)[0].place.key, "parallel");
}

TEST(ConfigWorld, RulesOverRefusedKeysAreNotReported) {
  const std::string all = refusal(kValid, {"parallel.tensor=x"}, 3);
  EXPECT_EQ(all, "command line: parallel.tensor: expected an integer, got \"x\"");
}

// Overrides that are valid together in any subset.
const std::vector<std::string>& compatible_overrides() {
  static const std::vector<std::string> overrides = {
      "run.dir=\"some where\"",
      "run.seed=18446744073709551615",
      "device=cpu",
      "model.model_type=qwen3",
      "model.vocab_size=1001",
      "model.head_dim=10",
      "model.rms_norm_eps=1.1e-6",
      "model.rope_scaling={rope_type: llama3, factor: 32, low_freq_factor: 1.5}",
      "model.max_position_embeddings=4096",
      "model.tie_word_embeddings=false",
      "init_from=runs/시작",
      "data.stages.0.sources.ko=0.1",
      "data.sources.yes={shards: \"- 'q' \\\"x\\\": #\", license: \"null\"}",
      "data.sources.한국어={shards: 1234, language: no}",
      "parallel={pipeline: 2, layers_per_stage: [1, 3]}",
      "parallel.timeout_s=0.1",
      "parallel.sequence_parallel=false",
      "train.recompute=full",
      "precision={compute: bf16, master: bf16, gradients: bf16, reduction: bf16}",
      "optimizer.betas=[0.1, 0.3000000000000004]",
      "optimizer.lr=3e-4",
      "schedule={warmup_steps: 2, decay_steps: 3}",
      "checkpoint={every: 0, resume: never}",
      "eval.every=7"};
  return overrides;
}

TEST(ConfigRoundTrip, WrittenConfigurationIsReadAsEqualForAnySubsetOfOverrides) {
  const PhiloxKey key = philox_key(1, "subsets");
  for (std::uint64_t trial = 0; trial < 200; ++trial) {
    std::vector<std::string> chosen;
    for (std::size_t i = 0; i < compatible_overrides().size(); ++i)
      if (philox_bits(key, trial) >> i & 1) chosen.push_back(compatible_overrides()[i]);
    const Config config = parse_config(kValid, "c.yaml", chosen);
    const std::string text = to_yaml(config);
    EXPECT_EQ(parse_config(text, "resolved.yaml"), config) << text;
    EXPECT_EQ(to_yaml(parse_config(text, "resolved.yaml")), text);
  }
}

TEST(ConfigRoundTrip, EachOverrideChangesTheWrittenConfiguration) {
  const std::string plain = to_yaml(parse_config(kValid, "c.yaml"));
  for (const std::string& override_text : compatible_overrides()) {
    const std::vector<std::string> one = {override_text};
    EXPECT_NE(to_yaml(parse_config(kValid, "c.yaml", one)), plain) << override_text;
  }
}

}  // namespace
}  // namespace terroir
