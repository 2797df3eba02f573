// What packed documents need around cuDNN's kernels.
#pragma once

#include <array>

#include "kernels/tensor/op_context.h"

namespace terroir::cuda {

struct SequenceTables {
  static constexpr int kMaxTables = 9;
  const std::int32_t* starts = nullptr;  // [num_sequences + 1]
  std::int64_t num_sequences = 0;
  std::int32_t* lengths = nullptr;  // [num_sequences]: starts[i + 1] - starts[i]
  std::array<std::int64_t*, kMaxTables>
      offsets{};  // null, or [num_sequences + 1]: starts[i] * token_strides[..]
  std::array<std::int64_t, kMaxTables> token_strides{};
};
void write_sequence_tables(OpContext& ctx, const SequenceTables& tables);

// f32 [num_matrices, rows, columns] -> [num_matrices, columns, rows], contiguous, not in place.
void transpose(OpContext& ctx, const float* from, float* to, std::int64_t num_matrices, std::int64_t rows,
               std::int64_t columns);

}  // namespace terroir::cuda
