// The thread that reads ahead of the training step.
#pragma once

#include <cstdint>
#include <memory>

#include "data/loader/corpus.h"

namespace terroir {

// Which samples one data-parallel rank needs, in order. Step n of [first_step, last_step) takes the global
// samples first_sample + (n - first_step) * global_batch_size + [0, global_batch_size); rank d of data_size
// takes its d-th contiguous part of them, in micro-batches of micro_batch_size.
struct LoaderPlan {
  std::int64_t first_step = 0, last_step = 0;
  std::int64_t global_batch_size = 0, micro_batch_size = 0;
  int data_rank = 0, data_size = 1;
  std::int64_t first_sample = 0;  // of first_step
};

// Reads micro-batches on one background thread, a few ahead of the caller.
class Loader {
 public:
  // REQUIRES: global_batch_size is a multiple of data_size * micro_batch_size; `corpus` outlives the loader.
  Loader(const Corpus& corpus, LoaderPlan plan);
  ~Loader();  // stops the thread, whatever is left
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The next micro-batch: all of the first step's, then the next step's. Valid until the next call. Rethrows
  // what stopped the thread, after the batches read before it. REQUIRES: the plan has one more.
  const SampleBatch& next();
  // Seconds the last next() waited for the thread: what reading has cost the step.
  double last_wait_s() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace terroir
