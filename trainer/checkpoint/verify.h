// Reading a whole checkpoint, or two, to say whether they are whole, or equal.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"

namespace terroir {

// Reads every byte: each file against its hash, then each state of each tensor as a loader would (slice
// hashes, no element missing). Returns what is wrong; empty: all is well. Memory: the largest tensor.
std::vector<Problem> verify_checkpoint(const std::filesystem::path& checkpoint);

struct StateDifference {
  std::string tensor, state;
  std::string kind;  // "only_in_a", "only_in_b", "shape", "values"
  // Of kind "values": elements whose bits differ, and the largest absolute difference (NaN if there is one).
  std::int64_t num_elements = 0, num_different = 0;
  double max_difference = 0;
};

// The states of tensors in which two checkpoints differ, whatever layouts wrote them. Damage is a UserError,
// exit 4.
std::vector<StateDifference> compare_checkpoints(const std::filesystem::path& a,
                                                 const std::filesystem::path& b);

}  // namespace terroir
