// Held-out loss: the same windows every time, divided over the data ranks.
#pragma once

#include "data/loader/corpus.h"
#include "trainer/step/engine.h"

namespace terroir {

class Validation {
 public:
  // At most `max_samples` windows of each source. `corpus` outlives it.
  Validation(const Corpus& corpus, std::int64_t max_samples, std::int64_t micro_batch_size, int data_rank,
             int data_size);
  bool empty() const { return windows_.empty(); }
  // Collective over the mesh.
  LossSums run(Engine& engine) const;

 private:
  struct Window {
    int source;
    std::int64_t index;
  };
  void read(std::int64_t micro_batch, SampleBatch& out) const;

  const Corpus& corpus_;
  std::vector<Window> windows_;  // of all data ranks
  std::int64_t micro_batch_size_;
  int data_rank_, data_size_;
};

}  // namespace terroir
