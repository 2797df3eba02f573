#include "trainer/interop/hf_config.h"

#include <algorithm>
#include <vector>

namespace terroir {
namespace {

constexpr std::int64_t kMaxSize = std::int64_t{1} << 31;  // of any one size: products then fit 64 bits

struct Family {
  const char* model_type;
  const char* architecture;
};
constexpr Family kFamilies[] = {
    {"llama", "LlamaForCausalLM"}, {"qwen2", "Qwen2ForCausalLM"}, {"qwen3", "Qwen3ForCausalLM"}};

const Family* find_family(const std::string& model_type) {
  const auto* found = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                   [&](const Family& family) { return model_type == family.model_type; });
  return found == std::end(kFamilies) ? nullptr : found;
}

// The members of one object; null counts as absent, as it does for transformers.
class Members {
 public:
  Members(const Json& object, Place place) : object_(object), place_(std::move(place)) {
    if (!object.is_object()) throw UserError(ExitCode::kCheckpoint, place_, "must be an object");
  }
  [[noreturn]] void refuse(const std::string& name, const std::string& message) const {
    throw UserError(ExitCode::kCheckpoint, at(name), message);
  }
  bool has(const std::string& name) const { return object_.contains(name) && !object_[name].is_null(); }
  bool has_key(const std::string& name) const { return object_.contains(name); }
  template <class T>
  T get(const std::string& name) const {
    return json_at<T>(object_, name, place_, ExitCode::kCheckpoint);
  }
  template <class T>
  T get(const std::string& name, T fallback) const {
    return has(name) ? get<T>(name) : fallback;
  }
  std::int64_t size(const std::string& name) const { return checked(name, get<std::int64_t>(name)); }
  std::int64_t size(const std::string& name, std::int64_t fallback) const {
    return checked(name, get<std::int64_t>(name, fallback));
  }
  double positive(const std::string& name, double fallback) const {
    const double value = get<double>(name, fallback);
    if (!(value > 0)) refuse(name, fmt::format("is {}, a number above 0 is needed", value));
    return value;
  }
  Members object(const std::string& name) const { return {object_.at(name), at(name)}; }

 private:
  Place at(const std::string& name) const {
    Place place = place_;
    place.key += (place.key.empty() ? "" : ".") + name;
    return place;
  }
  std::int64_t checked(const std::string& name, std::int64_t value) const {
    if (value < 1 || value > kMaxSize)
      refuse(name, fmt::format("is {}, 1 to {} is possible", value, kMaxSize));
    return value;
  }
  const Json& object_;
  Place place_;
};

void check_family(const Members& config) {
  const auto model_type = config.get<std::string>("model_type");
  const Family* family = find_family(model_type);
  if (family == nullptr)
    config.refuse("model_type", fmt::format("is \"{}\"; llama, qwen2 and qwen3 can be imported", model_type));
  if (!config.has("architectures")) return;
  if (config.get<Json>("architectures") != Json::array({family->architecture}))
    config.refuse("architectures", fmt::format("must be [\"{}\"]", family->architecture));
}

// Keys that would change what the model computes.
void check_unsupported(const Members& config) {
  for (const char* name : {"attention_bias", "mlp_bias", "use_sliding_window"})
    if (config.get<bool>(name, false)) config.refuse(name, "is true; models with it cannot be imported");
  const auto activation = config.get<std::string>("hidden_act", "silu");
  if (activation != "silu")
    config.refuse("hidden_act", fmt::format("is \"{}\"; only silu can be imported", activation));
  if (config.get<double>("partial_rotary_factor", 1) != 1)
    config.refuse("partial_rotary_factor", "is not 1; models with it cannot be imported");
  if (config.has("quantization_config"))
    config.refuse("quantization_config",
                  "is there; quantized weights cannot be imported, use the original ones");
  for (const Json& type : config.get<Json>("layer_types", Json::array()))
    if (type != "full_attention")
      config.refuse("layer_types", fmt::format("holds {}; only full_attention can be imported", type.dump()));
}

// `rope` is rope_scaling or rope_parameters.
RopeScalingConfig read_rope_scaling(const Members& rope) {
  RopeScalingConfig scaling;
  scaling.rope_type = rope.get<std::string>("rope_type", rope.get<std::string>("type", "default"));
  if (scaling.rope_type == "default") return scaling;
  if (scaling.rope_type != "llama3")
    rope.refuse("rope_type", fmt::format("is \"{}\"; default and llama3 can be imported", scaling.rope_type));
  scaling.factor = rope.get<double>("factor");
  scaling.low_freq_factor = rope.get<double>("low_freq_factor");
  scaling.high_freq_factor = rope.get<double>("high_freq_factor");
  scaling.original_max_position_embeddings = rope.size("original_max_position_embeddings");
  if (scaling.factor < 1) rope.refuse("factor", "must be at least 1");
  if (scaling.high_freq_factor <= scaling.low_freq_factor)
    rope.refuse("high_freq_factor", "must be greater than low_freq_factor");
  return scaling;
}

// Both dialects; when both are there they must agree, since a reader of either must get the same model.
void read_rope(const Members& config, ModelConfig& model) {
  constexpr double kDefaultTheta = 10000;  // transformers'
  model.rope_theta = config.positive("rope_theta", kDefaultTheta);
  if (config.has("rope_scaling")) model.rope_scaling = read_rope_scaling(config.object("rope_scaling"));
  if (!config.has("rope_parameters")) return;
  const Members parameters = config.object("rope_parameters");
  const double theta = parameters.positive("rope_theta", model.rope_theta);
  const RopeScalingConfig scaling = read_rope_scaling(parameters);
  if (config.has("rope_theta") && theta != model.rope_theta)
    config.refuse("rope_parameters.rope_theta",
                  fmt::format("is {} but rope_theta is {}: remove the wrong one", theta, model.rope_theta));
  if (config.has_key("rope_scaling") && scaling != model.rope_scaling)
    config.refuse("rope_parameters", "says something else than rope_scaling: remove the wrong one");
  model.rope_theta = theta;
  model.rope_scaling = scaling;
}

void check_dtypes_agree(const Members& config) {
  if (!config.has("dtype") || !config.has("torch_dtype")) return;
  const auto dtype = config.get<std::string>("dtype"), torch_dtype = config.get<std::string>("torch_dtype");
  if (dtype != torch_dtype)
    config.refuse("dtype", fmt::format("is \"{}\" but torch_dtype is \"{}\": remove the wrong one", dtype,
                                       torch_dtype));
}

void read_heads(const Members& config, ModelConfig& model) {
  model.num_attention_heads = config.size("num_attention_heads");
  model.num_key_value_heads = config.size("num_key_value_heads", model.num_attention_heads);
  if (model.num_attention_heads % model.num_key_value_heads != 0)
    config.refuse("num_key_value_heads", fmt::format("{} does not divide num_attention_heads {}",
                                                     model.num_key_value_heads, model.num_attention_heads));
  const bool qwen3_default = model.model_type == "qwen3" && !config.has_key("head_dim");
  model.head_dim =
      qwen3_default ? 128 : config.size("head_dim", model.hidden_size / model.num_attention_heads);
  if (model.head_dim % 2 != 0)
    config.refuse("head_dim", fmt::format("{} is odd; rotary embeddings turn pairs", model.head_dim));
}

Json rope_scaling_json(const RopeScalingConfig& scaling) {
  return {{"rope_type", scaling.rope_type},
          {"factor", scaling.factor},
          {"low_freq_factor", scaling.low_freq_factor},
          {"high_freq_factor", scaling.high_freq_factor},
          {"original_max_position_embeddings", scaling.original_max_position_embeddings}};
}

void write_rope(const ModelConfig& model, Json& config) {
  const bool scaled = model.rope_scaling.rope_type != "default";
  const Json scaling = rope_scaling_json(model.rope_scaling);
  config["rope_theta"] = model.rope_theta;
  config["rope_scaling"] = scaled ? scaling : Json();
  config["rope_parameters"] = scaled ? scaling : Json{{"rope_type", "default"}};
  config["rope_parameters"]["rope_theta"] = model.rope_theta;
}

// What only some families have.
void write_family(const ModelConfig& model, Json& config) {
  if (model.model_type == "llama") {
    config["mlp_bias"] = false;
    config["attention_bias"] = false;
    config.emplace("pretraining_tp", 1);
    return;
  }
  if (model.model_type == "qwen3") config["attention_bias"] = false;
  config["use_sliding_window"] = false;
  config.emplace("sliding_window", nullptr);
  config.emplace("max_window_layers", model.num_hidden_layers);
  config["layer_types"] =
      std::vector<std::string>(static_cast<std::size_t>(model.num_hidden_layers), "full_attention");
}

}  // namespace

ModelConfig model_from_hf_config(const Json& json, const std::string& file) {
  const Members config(json, Place{file});
  check_family(config);
  check_unsupported(config);
  check_dtypes_agree(config);
  ModelConfig model;
  model.model_type = config.get<std::string>("model_type");
  model.vocab_size = config.size("vocab_size");
  model.hidden_size = config.size("hidden_size");
  model.intermediate_size = config.size("intermediate_size");
  model.num_hidden_layers = config.size("num_hidden_layers");
  read_heads(config, model);
  read_rope(config, model);
  model.rms_norm_eps = config.positive("rms_norm_eps", 1e-6);
  model.max_position_embeddings =
      config.size("max_position_embeddings", model.model_type == "llama" ? 2048 : 32768);
  model.tie_word_embeddings = config.get<bool>("tie_word_embeddings", false);
  model.initializer_range = config.get<double>("initializer_range", 0.02);
  return model;
}

Json hf_config_of(const ModelConfig& model, const HfConfigFacts& facts, Json base) {
  Json config = std::move(base);
  const Family* family = find_family(model.model_type);
  TERROIR_CHECK(family != nullptr, "model_type {}", model.model_type);
  config["architectures"] = {family->architecture};
  config["model_type"] = model.model_type;
  config["vocab_size"] = model.vocab_size;
  config["hidden_size"] = model.hidden_size;
  config["intermediate_size"] = model.intermediate_size;
  config["num_hidden_layers"] = model.num_hidden_layers;
  config["num_attention_heads"] = model.num_attention_heads;
  config["num_key_value_heads"] = model.num_key_value_heads;
  config["head_dim"] = model.head_dim;
  config["max_position_embeddings"] = model.max_position_embeddings;
  config["rms_norm_eps"] = model.rms_norm_eps;
  config["initializer_range"] = model.initializer_range;
  config["tie_word_embeddings"] = model.tie_word_embeddings;
  config["hidden_act"] = "silu";
  config["dtype"] = facts.dtype;
  config["torch_dtype"] = facts.dtype;
  config.emplace("attention_dropout", 0.0);
  config.emplace("use_cache", true);
  config.emplace("bos_token_id", facts.bos_token_id ? Json(*facts.bos_token_id) : Json());
  config.emplace("eos_token_id", facts.eos_token_id ? Json(*facts.eos_token_id) : Json());
  config.emplace("pad_token_id", nullptr);
  write_rope(model, config);
  write_family(model, config);
  return config;
}

}  // namespace terroir
