// A small model trained for a few steps on synthetic samples in a given layout, compared with one rank.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "parallel/world.h"
#include "trainer/config/config.h"

namespace terroir {
struct SampleBatch;
}

namespace terroir::test {

// Five layers (uneven stages), a prime vocabulary, sequences of 17 tokens (no tensor degree divides the 34
// tokens of a micro-batch but 2), an intermediate size that 3 and 4 tensor ranks do not divide.
struct LayoutCase {
  std::string model_type = "llama";
  int heads = 6, kv_heads = 2;
  bool tied = true, sequence_parallel = true, recompute = false;
  std::string schedule = "1f1b";
  int tensor = 1, pipeline = 1;
  int global_batch = 24, micro_batch = 2;
};
Config make_config(const LayoutCase& layout);

// The samples [first, first + count) of a fixed synthetic corpus with several documents in a window.
SampleBatch make_samples(std::int64_t first, std::int64_t count, const Config& config);

using Tensors = std::map<std::string, std::vector<float>>;  // by logical name, whole, row-major

struct TrainedRun {
  std::vector<double> losses;  // one a step
  std::vector<double> grad_norms;
  std::vector<Tensors> gradients;  // one a step: of the mean loss
  Tensors weights;                 // after the last step
};

constexpr int kSteps = 3;

// The reference: one rank on the CPU, everything assembled.
TrainedRun run_one_rank(const Config& config);

struct Difference {
  double loss = 0, grad_norm = 0;  // largest relative difference over the steps
  double gradient = 0,
         weight = 0;  // largest difference of an element, relative to its tensor's largest element
  std::string worst;  // which tensor
  std::int64_t elements_checked = 0;  // of each gradient, summed over steps and ranks
  std::string bits;                   // hash of this rank's losses, gradients and weights
};

// Takes the same steps in this world's layout, on the device that the configuration names (cuda: its module
// is loaded); every rank checks the pieces that it owns. Collective.
Difference compare_with_one_rank(const Config& config, World& world, const TrainedRun& reference);

// The same by `num_ranks` threads: the largest differences of all ranks, the elements that they checked
// together, and rank 0's bits.
Difference compare_on_threads(const Config& config, int num_ranks, const TrainedRun& reference);

}  // namespace terroir::test
