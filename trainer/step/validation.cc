#include "trainer/step/validation.h"

#include <algorithm>

namespace terroir {
namespace {

void append(std::vector<std::int32_t>& to, const std::vector<std::int32_t>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

Validation::Validation(const Corpus& corpus, std::int64_t max_samples, std::int64_t micro_batch_size,
                       int data_rank, int data_size)
    : corpus_(corpus), micro_batch_size_(micro_batch_size), data_rank_(data_rank), data_size_(data_size) {
  for (int source = 0; source < corpus.num_sources(); ++source)
    for (std::int64_t i = 0; i < std::min(max_samples, corpus.num_validation_samples(source)); ++i)
      windows_.push_back({source, i});
}

LossSums Validation::run(Engine& engine) const {
  const std::int64_t per_round = micro_batch_size_ * data_size_;
  const auto rounds =
      static_cast<std::int64_t>((static_cast<std::int64_t>(windows_.size()) + per_round - 1) / per_round);
  SampleBatch batch;
  std::int64_t round = 0;
  return engine.evaluate(static_cast<int>(rounds), [&]() -> const SampleBatch& {
    read(round++ * data_size_ + data_rank_, batch);
    return batch;
  });
}

// The last micro-batches are filled up with windows whose targets do not count.
void Validation::read(std::int64_t micro_batch, SampleBatch& out) const {
  out = {.count = micro_batch_size_, .sequence_length = corpus_.options().sequence_length};
  SampleBatch one;
  for (std::int64_t i = 0; i < micro_batch_size_; ++i) {
    const std::int64_t index = micro_batch * micro_batch_size_ + i;
    const bool filler = index >= static_cast<std::int64_t>(windows_.size());
    const Window window = filler ? windows_[0] : windows_[static_cast<std::size_t>(index)];
    corpus_.read_validation(window.source, window.index, 1, one);
    if (filler) std::fill(one.targets.begin(), one.targets.end(), -1);
    append(out.tokens, one.tokens);
    append(out.targets, one.targets);
    append(out.positions, one.positions);
    append(out.documents, one.documents);
    append(out.source, one.source);
  }
}

}  // namespace terroir
