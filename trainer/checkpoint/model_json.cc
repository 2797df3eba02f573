#include "trainer/checkpoint/model_json.h"

namespace terroir {
namespace {

// One list of fields for both directions: visit(name, field) for each.
template <class Scaling, class Visit>
void visit_rope_scaling(Scaling& scaling, const Visit& visit) {
  visit("rope_type", scaling.rope_type);
  visit("factor", scaling.factor);
  visit("low_freq_factor", scaling.low_freq_factor);
  visit("high_freq_factor", scaling.high_freq_factor);
  visit("original_max_position_embeddings", scaling.original_max_position_embeddings);
}

template <class Model, class Visit>
void visit_model(Model& model, const Visit& visit) {
  visit("model_type", model.model_type);
  visit("vocab_size", model.vocab_size);
  visit("hidden_size", model.hidden_size);
  visit("intermediate_size", model.intermediate_size);
  visit("num_hidden_layers", model.num_hidden_layers);
  visit("num_attention_heads", model.num_attention_heads);
  visit("num_key_value_heads", model.num_key_value_heads);
  visit("head_dim", model.head_dim);
  visit("rms_norm_eps", model.rms_norm_eps);
  visit("rope_theta", model.rope_theta);
  visit("max_position_embeddings", model.max_position_embeddings);
  visit("tie_word_embeddings", model.tie_word_embeddings);
  visit("initializer_range", model.initializer_range);
}

}  // namespace

Json model_to_json(const ModelConfig& model) {
  Json json;
  visit_model(model, [&](const char* name, const auto& field) { json[name] = field; });
  visit_rope_scaling(model.rope_scaling,
                     [&](const char* name, const auto& field) { json["rope_scaling"][name] = field; });
  return json;
}

ModelConfig model_from_json(const Json& json, const Place& place) {
  ModelConfig model;
  const auto reader = [](const Json& object, const Place& at) {
    return [&object, at](const char* name, auto& field) {
      field = json_at<std::decay_t<decltype(field)>>(object, name, at, ExitCode::kCheckpoint);
    };
  };
  visit_model(model, reader(json, place));
  const Json scaling = json_at<Json>(json, "rope_scaling", place, ExitCode::kCheckpoint);
  Place scaling_place = place;
  scaling_place.key += ".rope_scaling";
  visit_rope_scaling(model.rope_scaling, reader(scaling, scaling_place));
  return model;
}

}  // namespace terroir
