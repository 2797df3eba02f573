// Matrix products' algorithms over the ranks and the life of a run: chosen once, agreed on, kept in
// checkpoints, so that every step on every rank, also after a resume, sums in the same order.
#pragma once

#include <filesystem>

#include "base/log.h"
#include "kernels/matmul/gemm_choice.h"
#include "parallel/communicator.h"

namespace terroir {

// A checkpoint's file of choices; checkpoints of CPU runs, imported and older ones have none.
inline constexpr const char* kGemmChoicesName = "gemm_choices.json";

// What the step folder holds, empty without the file. Damage is a UserError, exit 4, that names the file.
GemmChoiceList stored_gemm_choices(const std::filesystem::path& checkpoint);

// To be called when this rank has met its products: its choices were `choices.made`. From here on all ranks
// take the lowest rank's choice of each product, keep those of `stored` that this layout does not meet, and
// take the library's first suggestion, unmeasured, for what nobody met. Returns that list, which is what
// checkpoints keep; empty where no rank chose anything. `log` of rank 0 hears what differs from `stored`, and
// of ranks whose library or GPU is not the list's: for these every product is one that nobody met. Collective
// over `control`; `stored` is the same on all ranks.
GemmChoiceList agree_on_gemm_choices(GemmChoices& choices, const GemmChoiceList& stored,
                                     Communicator& control, Logger& log);

}  // namespace terroir
