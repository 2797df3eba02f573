#include "trainer/model/document_starts.h"

#include <algorithm>

namespace terroir {

std::int64_t max_documents(std::int64_t batch, std::int64_t sequence) {
  return batch * std::max<std::int64_t>(4, sequence / 256);
}

DocumentLayout find_documents(const SampleBatch& batch, std::span<std::int32_t> starts) {
  const auto length = static_cast<std::size_t>(batch.sequence_length);
  const std::size_t num_tokens = batch.documents.size();
  bool one_per_row = true;
  std::size_t count = 0;
  for (std::size_t token = 0; token < num_tokens; ++token) {
    const bool first = token % length == 0;
    const std::int32_t document = batch.documents[token], position = batch.positions[token];
    if (!first && document == batch.documents[token - 1]) {
      if (position != batch.positions[token - 1] + 1) return DocumentLayout::kOther;
      continue;
    }
    // Numbers that ascend in a row: none comes back after another.
    if (!first && document < batch.documents[token - 1]) return DocumentLayout::kOther;
    if (count + 1 >= starts.size()) return DocumentLayout::kOther;
    one_per_row = one_per_row && first;
    starts[count++] = static_cast<std::int32_t>(token);
  }
  std::fill(starts.begin() + static_cast<std::ptrdiff_t>(count), starts.end(),
            static_cast<std::int32_t>(num_tokens));
  return one_per_row ? DocumentLayout::kOnePerRow : DocumentLayout::kPacked;
}

}  // namespace terroir
