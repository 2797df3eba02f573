// ModelConfig as the JSON object a manifest holds. Names are the fields'.
#pragma once

#include "base/json.h"
#include "trainer/config/model_config.h"

namespace terroir {

Json model_to_json(const ModelConfig& model);
// A missing or mistyped field is a UserError, exit 4, at `place`.
ModelConfig model_from_json(const Json& json, const Place& place);

}  // namespace terroir
