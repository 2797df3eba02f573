// README.md of an exported model: facts only, for people to complete.
#pragma once

#include <cstdint>
#include <string>

#include "trainer/checkpoint/checkpoint.h"

namespace terroir {

// Markdown with the front matter that Hugging Face reads. From meta.extra, where they are there: "name"
// (text), "languages" (codes) and "licenses" (SPDX, of the training text; what licence the model gets is for
// its makers to say).
std::string model_card(const CheckpointMeta& meta, std::int64_t num_parameters);

}  // namespace terroir
