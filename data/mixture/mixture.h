// Which source a training sample comes from, and the how-manieth draw of that source it is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/philox.h"

namespace terroir {

// Rounds weights to millionths of their sum (a positive weight to at least one): the integers the mixture is
// exact in. REQUIRES: finite, >= 0, a positive sum.
std::vector<std::int64_t> integer_weights(std::span<const double> weights);

// One stage: the mixture holds from sample `first_sample` on, until the next stage begins.
struct MixtureStage {
  std::int64_t first_sample = 0;
  std::vector<std::int64_t> weights;  // one per source, sum > 0; see integer_weights
};

struct Draw {
  int source = 0;
  std::int64_t index = 0;  // the source's draws before this one, over all stages
};

// Samples are taken in blocks of B, counted from the stage's start. With P_s = (weights of sources 0..s) /
// (sum of weights), the first k blocks hold exactly floor(k B P_s) - floor(k B P_(s-1)) samples of source s;
// inside a block the sources stand in a random order keyed by (seed, stage, block). B is the smallest power
// of two >= 128 for which every weighted source's share of a block is at least one sample: with a smaller
// share the difference of floors could fall from one block to the next. A pure function: any rank computes
// any sample.
class Mixture {
 public:
  static constexpr std::int64_t kMaxBlock = 65536;
  static constexpr std::int64_t kMaxSamples = std::int64_t{1}
                                              << 40;  // keeps samples x millionths inside 64 bits

  // REQUIRES: at least one stage, the first at sample 0, first_sample increasing, equally many weights in
  // each, every positive weight at least 1 / kMaxBlock of its stage's sum.
  Mixture(std::vector<MixtureStage> stages, std::uint64_t seed);

  std::int64_t block_size(int stage) const { return stages_[static_cast<std::size_t>(stage)].block_size; }

  // The draws of samples [first, first + out.size()). Costs O(out.size() + block). REQUIRES: below
  // kMaxSamples.
  void draws(std::int64_t first, std::span<Draw> out) const;
  // Draws of each source by samples [0, num_samples), num_samples <= kMaxSamples.
  std::vector<std::int64_t> counts(std::int64_t num_samples) const;

 private:
  struct Stage {
    std::int64_t first_sample = 0;
    std::int64_t block_size = 0;
    std::vector<std::int64_t> prefix_weights;  // [sources + 1], from 0 to the sum
    std::vector<std::int64_t> start_cursors;   // draws of each source before the stage
  };
  std::vector<std::int64_t> counts_after_blocks(const Stage& stage, std::int64_t blocks) const;
  std::vector<int> block_layout(std::size_t stage, std::int64_t block) const;
  std::size_t stage_of(std::int64_t sample) const;

  std::vector<Stage> stages_;
  PhiloxKey key_;
};

}  // namespace terroir
