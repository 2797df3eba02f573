// What the host knows of a micro-batch's documents, for attention through cuDNN.
#pragma once

#include <cstdint>
#include <span>

#include "data/loader/corpus.h"

namespace terroir {

enum class DocumentLayout {
  kOnePerRow,  // each row is one document from its start
  kPacked,     // documents one after another, which the table of starts describes
  kOther,      // more documents than the table holds, or in an order that it cannot describe
};

// Documents that the table of a run's micro-batches holds: an average document of 256 tokens, and four a row
// at least. (Not measured: each costs cuDNN blocks of threads that find nothing to do.)
std::int64_t max_documents(std::int64_t batch, std::int64_t sequence);

// Writes the first token of each document to `starts` [max_documents + 1], numbered through all rows, and the
// number of tokens in what is left; unless kOther, when `starts` is not to be read.
DocumentLayout find_documents(const SampleBatch& batch, std::span<std::int32_t> starts);

}  // namespace terroir
