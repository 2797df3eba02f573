// Texts between ranks: file names, manifests, lists. Host memory, any length, empty too.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "parallel/communicator.h"

namespace terroir {

// Rank 0's text. Collective over `group`; `what` names it in error messages.
std::string broadcast_text(std::string text, Communicator& group, std::string_view what);

// On rank 0 the texts of all ranks, in rank order; nothing elsewhere. Collective over `group`.
std::vector<std::string> gather_texts(const std::string& text, Communicator& group, std::string_view what);

}  // namespace terroir
